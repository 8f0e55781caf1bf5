# shellcheck shell=bash
# Shared by scripts/demo and scripts/test; sourced, not run.

# need PACKAGE...: every Debian or Ubuntu package named is there afterwards, or the script has ended with status 2 and
# one line to run.
need() {
    if ! command -v dpkg-query >/dev/null; then
        echo "This is not a Debian or Ubuntu machine. Nothing is installed; needed are what Debian calls: $*" >&2
        return 0
    fi
    local missing=() package
    for package in "$@"; do
        [[ $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) == "install ok installed" ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        echo "sudo apt-get install -y --no-install-recommends ${missing[*]}"
        exit 2
    fi
    echo "installing ${missing[*]}"
    local apt=(apt-get -qq -o Dpkg::Use-Pty=0)
    # Package lists may be absent (a fresh container) or too old to install from; only then are they fetched.
    local lists=(/var/lib/apt/lists/*_Packages*)
    if [[ ! -e ${lists[0]} ]]; then "${apt[@]}" update; fi
    export DEBIAN_FRONTEND=noninteractive
    local log
    log=$(mktemp)
    if ! "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
        "${apt[@]}" update
        if ! "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
            tail -n 20 "$log" >&2
            rm -f "$log"
            echo "apt-get could not install: ${missing[*]}" >&2
            exit 2
        fi
    fi
    rm -f "$log"
}

# need_cmake: the presets need 3.25, which Debian 12 and Ubuntu 24.04 have.
need_cmake() {
    local have
    have=$(cmake --version | sed -n '1s/[^0-9]*\([0-9][0-9.]*\).*/\1/p')
    if [[ $(printf '%s\n' 3.25 "$have" | sort -V | head -n 1) != 3.25 ]]; then
        echo "cmake $have is too old: fewbit needs 3.25 or newer (Debian 12 and Ubuntu 24.04 have it)" >&2
        exit 2
    fi
}

# need_clang_runtime: the sanitizers and the fuzzer of the installed clang, which Debian and Ubuntu package by version.
need_clang_runtime() {
    command -v dpkg-query >/dev/null || return 0
    need "libclang-rt-$(clang++ -dumpversion | cut -d. -f1)-dev"
}

# use_ccache: where ccache is installed, what was compiled from the same text before is not compiled again, in whichever
# folder the checkout lies. Builds of CMake find it by themselves (FEWBIT_CCACHE); others start compilers by $launcher.
use_ccache() {
    command -v ccache >/dev/null || return 0
    export launcher=ccache CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1
}

heading() { printf '\n== %s\n' "$*"; }
