"""What the checks of this folder share: running fewbit, what it says about a file, counting what was checked.

From the environment: FEWBIT_CLI and FEWBIT_SAYS, the programs; FEWBIT_SOURCE_DIR; FEWBIT_SHARED_DIR, optional.
"""
import importlib
import os
import pathlib
import subprocess
import sys

FEWBIT = os.environ.get("FEWBIT_CLI", "fewbit")
SAYS = os.environ.get("FEWBIT_SAYS", "fewbit_says")
SOURCE = pathlib.Path(os.environ.get("FEWBIT_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
SHARED = os.environ.get("FEWBIT_SHARED_DIR")
EMBEDDED = SOURCE / "models/embedded/model.safetensors"


def need(*packages):
    """The modules, or the end of the program with the status that ctest takes for a skip."""
    found = []
    for package in packages:
        try:
            found.append(importlib.import_module(package))
        except Exception as error:  # a package that is there and broken is no reader either
            print(f"SKIPPED: {sys.executable} cannot import {package} ({type(error).__name__}: {error}); "
                  f"FEWBIT_PYTHON names an interpreter that can")
            sys.exit(77)
    return found


def version(package):
    from importlib.metadata import PackageNotFoundError, version as of
    try:
        return of(package)
    except PackageNotFoundError:
        return "of no known version"


def stories():
    """The folder of the model stories260K, or None, said loudly."""
    folder = pathlib.Path(SHARED) / "models/stories260K" if SHARED else None
    if folder is None or not folder.is_dir():
        print("SKIPPED: stories260K, which FEWBIT_SHARED_DIR would hold; the embedded model is checked alone")
        return None
    return folder


class Checks:
    """Counts; a failure is printed at once, the first 20 of them."""

    def __init__(self):
        self.done, self.failed = 0, 0

    def __call__(self, is_true, what):
        self.done += 1
        if not is_true:
            self.failed += 1
            if self.failed <= 20:
                print("FAILED:", what)
        return is_true

    def same(self, got, expected, what):
        return self(got == expected, f"{what}: {str(got)[:200]}, expected {str(expected)[:200]}")

    def finish(self):
        print(f"{self.done} checks, {self.failed} failed")
        sys.exit(1 if self.failed else 0)


def fewbit(*arguments):
    run = subprocess.run([FEWBIT, *map(str, arguments)], capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"FAILED: fewbit {' '.join(map(str, arguments))}\n{run.stderr}")


def says(what, path, given=b""):
    run = subprocess.run([SAYS, what, str(path)], input=given, capture_output=True)
    if run.returncode != 0:
        raise SystemExit(f"FAILED: fewbit_says {what} {path}\n{run.stderr.decode()}")
    return run.stdout


def says_tokens(path, texts):
    lines = says("tokens", path, b"".join(text.encode() + b"\0" for text in texts)).decode().splitlines()
    return [[int(token) for token in line.split()] for line in lines]
