"""torch on the CPU: f32, bf16 (x is bf16 already), dynamic int8, and its int4 product with bf16 x."""

from __future__ import annotations

import numpy as np

from subject import Factory, Missing, Offer, quantize_groups, quantize_rows

try:
    import torch
except ImportError as error:
    raise Missing(f"torch: the package {error.name} is not installed") from error


def dense(w: np.ndarray, kind: torch.dtype):
    weight = torch.from_numpy(w).to(kind, copy=True)
    return lambda x: torch.nn.functional.linear(x, weight), weight.nbytes


def dynamic_int8(w: np.ndarray):
    engines = torch.backends.quantized.supported_engines
    if "x86" in engines:
        torch.backends.quantized.engine = "x86"
    codes, scales = quantize_rows(w)
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    weight = torch._make_per_channel_quantized_tensor(torch.from_numpy(codes), torch.from_numpy(scales).double(),
                                                      zeros, 0)
    packed = torch.ops.quantized.linear_prepack(weight, None)
    return lambda x: torch.ops.quantized.linear_dynamic(x, packed), codes.nbytes + scales.nbytes


def int4(w: np.ndarray, group: int):
    codes, scales = quantize_groups(w, group)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(torch.from_numpy((codes + 8).astype(np.int32)), 1)
    # (groups, n, 2): scale, and what is added: value = scale * (code - 8) + addend
    both = torch.stack([torch.from_numpy(scales.T.copy()), torch.zeros(scales.T.shape)], dim=2).to(torch.bfloat16)
    both = both.contiguous()
    return (lambda x: torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, group, both),
            codes.size // 2 + both.nbytes)


class TorchProduct:
    def __init__(self, make_product, x_type: torch.dtype, w: np.ndarray, copies: int, threads: int):
        self.threads, self.x_type = threads, x_type
        torch.set_num_threads(threads)
        made = [make_product(w) for _ in range(copies)]
        self.products, self.weight_bytes = [product for product, _ in made], made[0][1]

    def bind(self, x: np.ndarray) -> None:
        torch.set_num_threads(self.threads)
        self.x = torch.from_numpy(x.copy()).to(self.x_type)

    @torch.inference_mode()
    def run(self, copy: int) -> None:
        self.y = self.products[copy % len(self.products)](self.x)

    def answer(self) -> np.ndarray:
        return self.y.float().numpy()

    def rest(self) -> None:
        pass


def offers() -> list[Offer]:
    def make(product, x_type: torch.dtype = torch.float32) -> Factory:
        return lambda w, copies, threads: TorchProduct(product, x_type, w, copies, threads)

    return [
        Offer("int4-g32", "torch int4 (x bf16)", make(lambda w: int4(w, 32), torch.bfloat16)),
        Offer("int4-g128", "torch int4 (x bf16)", make(lambda w: int4(w, 128), torch.bfloat16)),
        Offer("int8-channel", "torch dynamic int8", make(dynamic_int8)),
        Offer("bf16", "torch bf16", make(lambda w: dense(w, torch.bfloat16), torch.bfloat16)),
        Offer("f32", "torch f32", make(lambda w: dense(w, torch.float32))),
    ]
