"""Random latents, in one pass; and EqR's relaxed, noisy step, inside the kernels that compute its target.

Numbers come from Triton's Philox, a counter-based generator: four a call, each a function of (key, place). Torch's
generator of the device draws the key. So a seeded run repeats, and no two calls share a key.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.layers import CUT_STD, TAIL

ROUNDS = tl.constexpr(7)  # of Philox4x32: the fewest that pass BigCrush (Salmon et al., 2011)
_BLOCK = 1024


@triton.jit
def normals(key, place):
    """Four samples of N(0, 1) for every place, by Box and Muller's formula."""
    a, b, c, d = tl.randint4x(key, place, n_rounds=ROUNDS)
    return _pair(a, b) + _pair(c, d)


@triton.jit
def _pair(a, b):
    radius = tl.sqrt(-1.3862943611198906 * tl.log2(tl.uint_to_uniform_float(a) + 2.3283064e-10))
    half = b.to(tl.int32, bitcast=True).to(tl.float32) * 7.314590396e-10  # half the angle: in +-pi / 2
    square = half * half
    sin = ((((2.7557319e-6 * square - 1.9841270e-4) * square + 8.3333333e-3) * square - 0.16666667) * square + 1) * half
    cos = (((-2.7557319e-7 * square + 2.4801587e-5) * square - 1.3888889e-3) * square + 4.1666667e-2) * square - 0.5
    cos = cos * square + 1
    return radius * (1 - 2 * sin * sin), radius * (2 * sin * cos)


class Relaxation(NamedTuple):
    """What `models.relaxation.relax` takes beside the target. h is contiguous; None asks for the target itself."""

    h: Tensor | None = None
    lambda_: float = 1.0
    noise_scale: float = 0.0

    def outputs(self, like: Tensor, save: bool) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """What `store_step` fills: (the target, if `save` asks for it; the key of the noise, if any; the result)."""
        out = torch.empty_like(like)
        if self.h is None:
            return out, None, out
        key = _key(like.device) if self.noise_scale > 0 else None
        return torch.empty_like(like) if save else None, key, out


NO_RELAXATION = Relaxation()


@triton.jit
def store_step(
    target, target_ptr, h_ptr, key_ptr, out_ptr, offsets, real, row, lambda_, noise_scale,
    DP: tl.constexpr, FROM: tl.constexpr = 0,
):  # fmt: skip
    """Stores a tile of targets if there is a target_ptr, and the step of h towards them if there is an h_ptr.

    The tile has the features from FROM on, of rows (int64) padded to DP. Noise is a function of key, row and feature.
    """
    if target_ptr is not None:
        tl.store(target_ptr + offsets, target.to(target_ptr.dtype.element_ty), real)
    if h_ptr is not None:
        h = tl.load(h_ptr + offsets, real, 0.0).to(tl.float32)
        out = h + lambda_ * (target - h)
        if key_ptr is not None:
            fours = FROM // 4 + tl.arange(0, target.shape[1] // 4)
            a, b, c, d = normals(tl.load(key_ptr), row[:, None] * (DP // 4) + fours[None, :])
            out += noise_scale * tl.reshape(tl.join(tl.join(a, b), tl.join(c, d)), target.shape)
        tl.store(out_ptr + offsets, out.to(out_ptr.dtype.element_ty), real)


@triton.jit
def _erfinv(x):
    """For |x| <= 0.96: the central polynomial of M. Giles, "Approximating the erfinv function" (2010)."""
    w = -tl.log((1.0 - x) * (1.0 + x)) - 2.5
    p = 2.81022636e-08 * w + 3.43273939e-07
    p = p * w - 3.5233877e-06
    p = p * w - 4.39150654e-06
    p = p * w + 0.00021858087
    p = p * w - 0.00125372503
    p = p * w - 0.00417768164
    p = p * w + 0.246640727
    p = p * w + 1.50140941
    return p * x


@triton.jit
def _truncated_normal(key_ptr, out_ptr, n, std, tail, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    uniform = tl.rand4x(tl.load(key_ptr), place, n_rounds=ROUNDS)
    for i in tl.static_range(4):
        offsets = tl.program_id(0).to(tl.int64) * (4 * BLOCK) + i * BLOCK + tl.arange(0, BLOCK)
        normal = 1.4142135623730951 * _erfinv((2.0 * uniform[i] - 1.0) * tail)
        tl.store(out_ptr + offsets, (std * normal).to(out_ptr.dtype.element_ty), offsets < n)


def _key(device: torch.device) -> Tensor:
    return torch.randint(2**62, (1,), device=device)


def truncated_normal(*shape: int, std: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Samples of N(0, std^2) cut at two standard deviations, rescaled so that their std is `std`."""
    out = torch.empty(shape, device=device, dtype=dtype)
    grid = (triton.cdiv(out.numel(), 4 * _BLOCK),)
    _truncated_normal[grid](_key(out.device), out, out.numel(), std / CUT_STD, TAIL, BLOCK=_BLOCK)
    return out
