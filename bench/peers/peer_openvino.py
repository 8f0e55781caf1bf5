"""OpenVINO on the CPU with compressed weights: 4 bits in groups, 8 bits per channel, bf16 and f32."""

from __future__ import annotations

import numpy as np

from subject import Factory, Missing, Offer, nibbles, quantize_groups, quantize_rows

try:
    import openvino as ov
    from openvino import opset13 as op
except ImportError as error:
    raise Missing(f"openvino: the package {error.name} is not installed") from error


def int4_weights(w: np.ndarray, group: int):
    n, k = w.shape
    codes, scales = quantize_groups(w, group)
    packed = nibbles(codes)

    def u4(values: np.ndarray, shape: list[int]):
        tensor = ov.Tensor(ov.Type.u4, ov.Shape(shape))  # with memory of its own
        np.copyto(tensor.data, values.reshape(tensor.data.shape))
        return op.constant(tensor)

    # Unsigned codes with a zero point of 8: the pattern that its CPU plugin multiplies without unpacking.
    constant = u4(packed, [n, k // group, group])
    zero = u4(np.array([8], np.uint8), [1, 1, 1])
    scale = op.constant(scales.reshape(n, k // group, 1))
    values = op.multiply(op.subtract(op.convert(constant, ov.Type.f32), op.convert(zero, ov.Type.f32)), scale)
    return op.reshape(values, np.array([n, k], np.int64), False), packed.nbytes + scales.nbytes


def int8_weights(w: np.ndarray):
    codes, scales = quantize_rows(w)
    values = op.multiply(op.convert(op.constant(codes), ov.Type.f32), op.constant(scales.reshape(-1, 1)))
    return values, codes.nbytes + scales.nbytes


def f32_weights(w: np.ndarray):
    return op.constant(w), w.nbytes


class OpenvinoProduct:
    def __init__(self, make_weights, config: dict, w: np.ndarray, copies: int, threads: int, weight_bytes: int = 0):
        core = ov.Core()
        settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32",
                    "ENABLE_CPU_PINNING": False, **config}
        self.requests = []
        for _ in range(copies):
            x = op.parameter([-1, w.shape[1]], np.float32)
            weights, self.weight_bytes = make_weights(w)
            model = ov.Model([op.matmul(x, weights, False, True)], [x], "product")
            self.requests.append(core.compile_model(model, "CPU", settings).create_infer_request())
        self.weight_bytes = weight_bytes or self.weight_bytes

    def bind(self, x: np.ndarray) -> None:
        self.x = ov.Tensor(np.ascontiguousarray(x, np.float32), shared_memory=True)
        for request in self.requests:
            request.set_input_tensor(self.x)

    def run(self, copy: int) -> None:
        self.last = copy % len(self.requests)
        self.requests[self.last].infer()

    def answer(self) -> np.ndarray:
        return np.array(self.requests[self.last].get_output_tensor().data, np.float32)

    def rest(self) -> None:
        pass


def offers() -> list[Offer]:
    def make(weights, **config) -> Factory:
        return lambda w, copies, threads: OpenvinoProduct(weights, config, w, copies, threads)

    def bf16(w: np.ndarray, copies: int, threads: int) -> OpenvinoProduct:
        return OpenvinoProduct(f32_weights, {"INFERENCE_PRECISION_HINT": "bf16"}, w, copies, threads, w.nbytes // 2)

    group = "DYNAMIC_QUANTIZATION_GROUP_SIZE"  # x as int8 in groups
    return [
        Offer("int4-g32", "openvino int4", make(lambda w: int4_weights(w, 32), **{group: 32})),
        Offer("int4-g128", "openvino int4", make(lambda w: int4_weights(w, 128), **{group: 128})),
        Offer("int8-channel", "openvino int8", make(int8_weights, **{group: 128})),
        Offer("bf16", "openvino bf16", bf16),
        Offer("f32", "openvino f32", make(f32_weights)),
    ]
