"""`mlp_norm` for rows that fit into a tile: one kernel forward, and one or two backward (narrow_backward.py).

Shapes are those of rows.py.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.kernels import weights
from models.kernels.limits import WIDEST_KERNEL_ROW
from models.kernels.mlp.narrow_backward import narrow_backward
from models.kernels.mlp.rows import columns_of, grid_of, offsets_of, parts_of, product, rows_of
from models.kernels.mlp.silu import swiglu
from models.kernels.noise import Relaxation, store_step
from models.kernels.norm import EPS


@triton.jit
def _forward(
    x_ptr, gate_up_ptr, down_ptr, norm_ptr, scale_ptr, h_ptr, key_ptr, out_ptr, R, lambda_, noise_scale,
    D: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    r, start, real = rows_of(tl.program_id(0), R, D, M, BLOCK)
    offsets1, real1 = offsets_of(start, real, 0, D1, D, M)
    x1 = tl.load(x_ptr + offsets1, real1, 0.0)
    x2 = x1
    sum1 = x1.to(tl.float32)
    if D2 > 0:
        offsets2, real2 = offsets_of(start, real, D1, D2, D, M)
        x2 = tl.load(x_ptr + offsets2, real2, 0.0)
        sum2 = x2.to(tl.float32)
    for first in range(0, N, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)
        g1, g2 = columns_of(gate_up_ptr + n[None, :] * (D1 + D2), 1, D1, D2)
        u1, u2 = columns_of(gate_up_ptr + (N + n)[None, :] * (D1 + D2), 1, D1, D2)
        act = swiglu(product(x1, x2, g1, g2, D2), product(x1, x2, u1, u2, D2), x1.dtype == tl.float32).to(x1.dtype)
        down = down_ptr + n[:, None]
        sum1 = tl.dot(act, tl.load(down + tl.arange(0, D1)[None, :] * N), sum1, input_precision="ieee")
        if D2 > 0:
            sum2 = tl.dot(act, tl.load(down + (D1 + tl.arange(0, D2))[None, :] * N), sum2, input_precision="ieee")
    square = tl.sum(sum1 * sum1, 1)
    if D2 > 0:
        square += tl.sum(sum2 * sum2, 1)
    scale = tl.rsqrt(square / D + EPS)
    tl.store(scale_ptr + r, scale, real)
    half: tl.constexpr = D1 // 2  # halves take fewer registers
    halves = tl.split(tl.permute(tl.reshape(sum1 * scale[:, None], (BLOCK, 2, half)), (0, 2, 1)))
    for i in tl.static_range(2):
        offsets, inside = offsets_of(start, real, i * half, half, D, M)
        store_step(
            halves[i], norm_ptr, h_ptr, key_ptr, out_ptr, offsets, inside, r, lambda_, noise_scale, D1 + D2, i * half
        )
    if D2 > 0:
        norm2 = sum2 * scale[:, None]
        store_step(norm2, norm_ptr, h_ptr, key_ptr, out_ptr, offsets2, real2, r, lambda_, noise_scale, D1 + D2, D1)


def _tile(width: int, M: int) -> tuple[int, int, int, int]:
    """(Rows, inner features, warps, pipeline stages) of the forward pass: the fastest on an H200."""
    if width == WIDEST_KERNEL_ROW:
        return (128, 32, 8, 3) if M else (64, 32, 4, 2)
    return (128, 64, 4, 2) if M else (128, 32, 4, 3)


class _NarrowMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x: Tensor, gate_up: Tensor, down: Tensor, over_positions: bool, save: bool, h, lambda_, noise_scale
    ) -> Tensor:
        D, M = (x.shape[1], x.shape[2]) if over_positions else (x.shape[-1], 0)
        R, N = x.numel() // D, down.shape[1]
        D1, D2 = parts_of(D)
        ctx.sizes = {"D": D, "D1": D1, "D2": D2, "M": M, "N": N}
        w_gate_up = weights.kernel_copy(gate_up, x.dtype, columns=D1 + D2)
        w_down = weights.kernel_copy(down, x.dtype, rows=D1 + D2)
        norm, key, out = Relaxation(h, lambda_, noise_scale).outputs(x, save)
        scale_R = torch.empty(R, device=x.device, dtype=torch.float32)
        block, block_n, warps, stages = _tile(D1 + D2, M)
        _forward[grid_of(ctx.sizes, R, block)](
            x, w_gate_up, w_down, norm, scale_R, h, key, out, R, lambda_, noise_scale,
            **ctx.sizes, BLOCK=block, BLOCK_N=block_n, num_warps=warps, num_stages=stages,
        )  # fmt: skip
        ctx.save_for_backward(x, w_gate_up, w_down, norm, scale_R)
        ctx.lambda_ = lambda_
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor | None, ...]:
        saved: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = ctx.saved_tensors
        d_x, d_gate_up, d_down = narrow_backward(*saved, d_out.contiguous(), ctx.lambda_, ctx.sizes)
        d_h = (1.0 - ctx.lambda_) * d_out if ctx.needs_input_grad[5] else None
        return d_x, d_gate_up, d_down, None, None, d_h, None, None


def narrow_mlp_norm(
    x: Tensor, gate_up: Tensor, down: Tensor, over_positions: bool, save: bool, relaxation: Relaxation
) -> Tensor:
    """`mlp_norm` for rows of at most WIDEST_KERNEL_ROW features. `save` keeps what gradients need."""
    return _NarrowMLP.apply(x.contiguous(), gate_up, down, over_positions, save, *relaxation)
