"""onnxruntime on the CPU: MatMulNBits (4 bits, int8 arithmetic inside), dynamic int8, and f32."""

from __future__ import annotations

import numpy as np

from subject import Factory, Missing, Offer, nibbles, quantize_groups, quantize_rows

try:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise Missing(f"onnxruntime: the package {error.name} is not installed") from error


def nbits_model(w: np.ndarray, group: int):
    """w in groups along K, codes -8..7 stored with 8 added, which is MatMulNBits' default zero point."""
    n, k = w.shape
    codes, scales = quantize_groups(w, group)
    packed = nibbles(codes).reshape(n, k // group, group // 2)
    node = helper.make_node("MatMulNBits", ["x", "w", "scales"], ["y"], domain="com.microsoft", K=k, N=n, bits=4,
                            block_size=group, accuracy_level=4)  # 4: x as int8
    constants = [numpy_helper.from_array(packed, "w"), numpy_helper.from_array(scales.reshape(-1), "scales")]
    return [node], constants, packed.nbytes + scales.nbytes


def dynamic_int8_model(w: np.ndarray):
    """x as u8 with one scale and zero point, w as int8 with a scale for each channel."""
    codes, scales = quantize_rows(w)
    transposed = np.ascontiguousarray(codes.T)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["x8", "x_scale", "x_zero"]),
        helper.make_node("MatMulInteger", ["x8", "w", "x_zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["float_sums"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x_scale", "scales"], ["factors"]),
        helper.make_node("Mul", ["float_sums", "factors"], ["y"]),
    ]
    constants = [numpy_helper.from_array(transposed, "w"), numpy_helper.from_array(scales, "scales")]
    return nodes, constants, codes.nbytes + scales.nbytes


def f32_model(w: np.ndarray):
    constants = [numpy_helper.from_array(np.ascontiguousarray(w.T), "w")]
    return [helper.make_node("MatMul", ["x", "w"], ["y"])], constants, w.nbytes


class OnnxProduct:
    def __init__(self, make_model, w: np.ndarray, copies: int, threads: int):
        self.n, k = w.shape
        nodes, constants, self.weight_bytes = make_model(w)
        graph = helper.make_graph(
            nodes, "product",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["m", k])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", self.n])], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17),
                                                        helper.make_opsetid("com.microsoft", 1)])
        model.ir_version = 8
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        data = model.SerializeToString()
        self.sessions = [onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
                         for _ in range(copies)]

    def bind(self, x: np.ndarray) -> None:
        self.x = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(x, np.float32))
        self.y = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((x.shape[0], self.n), np.float32))
        self.bindings = []
        for session in self.sessions:
            binding = session.io_binding()
            binding.bind_ortvalue_input("x", self.x)
            binding.bind_ortvalue_output("y", self.y)
            self.bindings.append(binding)

    def run(self, copy: int) -> None:
        i = copy % len(self.sessions)
        self.sessions[i].run_with_iobinding(self.bindings[i])

    def answer(self) -> np.ndarray:
        return self.y.numpy()

    def rest(self) -> None:
        pass  # its threads spin for a moment and then sleep


def offers() -> list[Offer]:
    def make(model) -> Factory:
        return lambda w, copies, threads: OnnxProduct(model, w, copies, threads)

    return [
        Offer("int4-g32", "onnxruntime MatMulNBits", make(lambda w: nbits_model(w, 32))),
        Offer("int4-g128", "onnxruntime MatMulNBits", make(lambda w: nbits_model(w, 128))),
        Offer("int8-channel", "onnxruntime dyn. int8", make(dynamic_int8_model)),
        Offer("f32", "onnxruntime f32", make(f32_model)),
    ]
