"""Residual and RMSNorm in one pass, forward and backward. The norm can be the target of a relaxed step.

Shapes: R rows (all leading axes together), D features. `DP` is D rounded up to a power of two.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from models import layers
from models.kernels import weights
from models.kernels.limits import WIDEST_KERNEL_ROW
from models.kernels.noise import NO_RELAXATION, Relaxation, store_step

EPS = tl.constexpr(layers.EPS)


@triton.jit
def _add_norm(
    x_ptr, y_ptr, norm_ptr, scale_ptr, h_ptr, key_ptr, out_ptr, R, lambda_, noise_scale,
    D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    r = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    d = tl.arange(0, DP)
    offsets = r[:, None] * D + d[None, :]
    real = (r[:, None] < R) & (d[None, :] < D)
    sum_ = tl.load(x_ptr + offsets, real, 0.0).to(tl.float32) + tl.load(y_ptr + offsets, real, 0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(sum_ * sum_, 1) / D + EPS)
    tl.store(scale_ptr + r, scale, r < R)
    norm = sum_ * scale[:, None]
    store_step(norm, norm_ptr, h_ptr, key_ptr, out_ptr, offsets, real, r, lambda_, noise_scale, DP)


@triton.jit
def _add_norm_backward(
    norm_ptr, d_out_ptr, scale_ptr, d_sum_ptr, R, lambda_, D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr
):
    r = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    d = tl.arange(0, DP)
    offsets = r[:, None] * D + d[None, :]
    real = (r[:, None] < R) & (d[None, :] < D)
    norm = tl.load(norm_ptr + offsets, real, 0.0).to(tl.float32)
    d_norm = lambda_ * tl.load(d_out_ptr + offsets, real, 0.0).to(tl.float32)
    scale = tl.load(scale_ptr + r, r < R, 0.0)
    d_sum = (d_norm - norm * (tl.sum(norm * d_norm, 1) / D)[:, None]) * scale[:, None]
    tl.store(d_sum_ptr + offsets, d_sum.to(d_sum_ptr.dtype.element_ty), real)


def _tile(D: int) -> dict[str, int]:
    DP = triton.next_power_of_2(D)
    return {"D": D, "DP": DP, "BLOCK": max(1, 4096 // DP)}


def add_norm(
    x: Tensor, y: Tensor, relaxation: Relaxation = NO_RELAXATION, save: bool = True
) -> tuple[Tensor, Tensor | None, Tensor]:
    """(norm(x + y), or the relaxed step towards it; that norm if `save`; the scale of each row [R] float32).

    x and y are [..., D] and contiguous.
    """
    norm, key, out = relaxation.outputs(x, save)
    D = x.shape[-1]
    R, tile = x.numel() // D, _tile(D)
    scale_R = torch.empty(R, device=x.device, dtype=torch.float32)
    _add_norm[triton.cdiv(R, tile["BLOCK"]),](
        x, y, norm, scale_R, relaxation.h, key, out, R, relaxation.lambda_, relaxation.noise_scale, **tile
    )
    return out, norm, scale_R


def add_norm_backward(norm: Tensor, d_out: Tensor, scale_R: Tensor, lambda_: float = 1.0) -> Tensor:
    """The gradient of x, which y has too.

    Takes the norm and the scales of `add_norm`, and the gradient of its first result.
    """
    d_sum, D = torch.empty_like(norm), norm.shape[-1]
    R, tile = scale_R.shape[0], _tile(D)
    _add_norm_backward[triton.cdiv(R, tile["BLOCK"]),](norm, d_out.contiguous(), scale_R, d_sum, R, lambda_, **tile)
    return d_sum


@triton.jit
def _linear_norm(
    h_ptr, y_ptr, weight_ptr, out_ptr, scale_ptr, R,
    D: tl.constexpr, DP: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    r = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    d, e = tl.arange(0, DP), tl.arange(0, EP)
    y = tl.load(y_ptr + r[:, None] * E + e[None, :], (r[:, None] < R) & (e[None, :] < E), 0.0)
    weight = tl.load(weight_ptr + d[None, :] * EP + e[:, None])
    offsets = r[:, None] * D + d[None, :]
    real = (r[:, None] < R) & (d[None, :] < D)
    sum_ = tl.dot(y, weight, tl.load(h_ptr + offsets, real, 0.0).to(tl.float32), input_precision="ieee")
    scale = tl.rsqrt(tl.sum(sum_ * sum_, 1) / D + EPS)
    tl.store(out_ptr + offsets, (sum_ * scale[:, None]).to(out_ptr.dtype.element_ty), real)
    tl.store(scale_ptr + r, scale, r < R)


def _small_linear_norm(h: Tensor, y: Tensor, weight: Tensor, heads: tuple[int, int]) -> tuple[Tensor, Tensor]:
    D, E = h.shape[-1], y.shape[-1]
    DP, EP = (max(16, triton.next_power_of_2(n)) for n in (D, E))
    R = h.numel() // D
    out, scale_R = torch.empty_like(h), torch.empty(R, device=h.device, dtype=torch.float32)
    block = 64
    _linear_norm[triton.cdiv(R, block),](
        h, y, weights.kernel_copy(weight, h.dtype, DP, EP, heads), out, scale_R, R,
        D=D, DP=DP, E=E, EP=EP, BLOCK=block, num_warps=4,
    )  # fmt: skip
    return out, scale_R


class _LinearNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h: Tensor, y: Tensor, weight: Tensor, K: int) -> Tensor:
        heads = 1, K
        w = weights.kernel_copy(weight, h.dtype, heads=heads)
        if max(w.shape) <= WIDEST_KERNEL_ROW:
            out, scale_R = _small_linear_norm(h, y, weight, heads)
        else:
            out, _, scale_R = add_norm(h, y @ w.T)
        ctx.save_for_backward(y, w, out, scale_R)
        ctx.K = K
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        y, w, out, scale_R = ctx.saved_tensors
        d_sum = add_norm_backward(out, d_out, scale_R)
        d_weight = d_sum.flatten(0, -2).T @ y.flatten(0, -2)
        return d_sum, d_sum @ w, weights.gather(d_weight, 1, ctx.K).float(), None


def linear_norm(h: Tensor, y: Tensor, weight: Tensor, K: int) -> Tensor:
    """norm(h + y weight^T), with h [..., D] and weight [D, H K]. y [..., H stride(K)] has H heads of K features."""
    return _LinearNorm.apply(h.contiguous(), y.contiguous(), weight, K)
