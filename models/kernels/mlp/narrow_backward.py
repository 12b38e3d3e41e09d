"""The backward pass of narrow.py. Sums have a fixed order, without atomics. Shapes are those of rows.py."""

import sys

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.kernels.limits import WIDEST_KERNEL_ROW
from models.kernels.mlp.rows import columns_of, grid_of, offsets_of, product, rows_of
from models.kernels.mlp.silu import swiglu_gradients

_PROGRAMS = 264  # two for each multiprocessor of an H100
_WIDE_TILE = 212992  # bytes of shared memory that 128 rows of 128 features by 64 inner features take on an H100


@triton.jit
def _backward(
    x_ptr, gate_up_ptr, down_ptr, norm_ptr, scale_ptr, d_out_ptr, d_x_ptr, d_sum_ptr, d_gates_ptr, act_ptr, R, lambda_,
    D: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr, M: tl.constexpr, N: tl.constexpr, KEEP: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The gradient of x, and what the gradients of the weights need.

    They need the gradient of the sum x + SwiGLU(x). KEEP also stores the activations [R, N] and the gradients of the
    gates [R, 2 N].
    """
    r, start, real = rows_of(tl.program_id(0), R, D, M, BLOCK)
    scale = tl.load(scale_ptr + r, real, 0.0)
    offsets1, real1 = offsets_of(start, real, 0, D1, D, M)
    x1 = tl.load(x_ptr + offsets1, real1, 0.0)
    norm1 = tl.load(norm_ptr + offsets1, real1, 0.0).to(tl.float32)
    d_norm1 = lambda_ * tl.load(d_out_ptr + offsets1, real1, 0.0).to(tl.float32)
    along = tl.sum(norm1 * d_norm1, 1)
    x2 = x1
    if D2 > 0:
        offsets2, real2 = offsets_of(start, real, D1, D2, D, M)
        x2 = tl.load(x_ptr + offsets2, real2, 0.0)
        norm2 = tl.load(norm_ptr + offsets2, real2, 0.0).to(tl.float32)
        d_norm2 = lambda_ * tl.load(d_out_ptr + offsets2, real2, 0.0).to(tl.float32)
        along += tl.sum(norm2 * d_norm2, 1)
    d_x1 = (d_norm1 - norm1 * (along / D)[:, None]) * scale[:, None]
    d_sum1 = d_x1.to(x1.dtype)
    d_sum2 = d_sum1
    if D2 > 0:
        d_x2 = (d_norm2 - norm2 * (along / D)[:, None]) * scale[:, None]
        d_sum2 = d_x2.to(x1.dtype)
    tl.store(d_sum_ptr + offsets1, d_sum1, real1)
    if D2 > 0:
        tl.store(d_sum_ptr + offsets2, d_sum2, real2)
    for first in range(0, N, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)
        g1, g2 = columns_of(gate_up_ptr + n[None, :] * (D1 + D2), 1, D1, D2)
        u1, u2 = columns_of(gate_up_ptr + (N + n)[None, :] * (D1 + D2), 1, D1, D2)
        gate, up = product(x1, x2, g1, g2, D2), product(x1, x2, u1, u2, D2)
        w1, w2 = columns_of(down_ptr + n[None, :], N, D1, D2)
        d_act = product(d_sum1, d_sum2, w1, w2, D2)
        act, d_gate, d_up = swiglu_gradients(gate, up, d_act, x1.dtype == tl.float32)
        act, d_gate, d_up = act.to(x1.dtype), d_gate.to(x1.dtype), d_up.to(x1.dtype)
        d_x1 = tl.dot(d_gate, tl.trans(g1), d_x1, input_precision="ieee")
        d_x1 = tl.dot(d_up, tl.trans(u1), d_x1, input_precision="ieee")
        if D2 > 0:
            d_x2 = tl.dot(d_gate, tl.trans(g2), d_x2, input_precision="ieee")
            d_x2 = tl.dot(d_up, tl.trans(u2), d_x2, input_precision="ieee")
        if KEEP:
            inner = r[:, None] * (2 * N) + n[None, :]
            tl.store(act_ptr + r[:, None] * N + n[None, :], act, real[:, None])
            tl.store(d_gates_ptr + inner, d_gate, real[:, None])
            tl.store(d_gates_ptr + inner + N, d_up, real[:, None])
    tl.store(d_x_ptr + offsets1, d_x1.to(x1.dtype), real1)
    if D2 > 0:
        tl.store(d_x_ptr + offsets2, d_x2.to(x1.dtype), real2)


@triton.jit
def _store(ptr, first, second, D1: tl.constexpr, D2: tl.constexpr):
    tl.store(ptr + tl.arange(0, D1)[None, :], first)
    if D2 > 0:
        tl.store(ptr + D1 + tl.arange(0, D2)[None, :], second)


@triton.jit
def _add(sum1, sum2, inner, x1, x2, D2: tl.constexpr):
    """Adds inner [BLOCK_N, BLOCK] @ x [BLOCK, D1 + D2] to both sums."""
    sum1 = tl.dot(inner, x1, sum1, input_precision="ieee")
    if D2 > 0:
        sum2 = tl.dot(inner, x2, sum2, input_precision="ieee")
    return sum1, sum2


@triton.jit
def _weights_backward(
    x_ptr, d_sum_ptr, gate_up_ptr, down_ptr, parts_ptr, R,
    D: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Partial gradients [P, 3, N, D1 + D2] of gate, up and down's transpose, each from every P-th tile of rows.

    A program has BLOCK_N inner features and computes their activations again.
    """
    W: tl.constexpr = D1 + D2
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    g1, g2 = columns_of(gate_up_ptr + n[None, :] * W, 1, D1, D2)
    u1, u2 = columns_of(gate_up_ptr + (N + n)[None, :] * W, 1, D1, D2)
    w1, w2 = columns_of(down_ptr + n[None, :], N, D1, D2)
    g1, g2, u1, u2, w1, w2 = tl.trans(g1), tl.trans(g2), tl.trans(u1), tl.trans(u2), tl.trans(w1), tl.trans(w2)
    d_g1 = tl.zeros((BLOCK_N, D1), tl.float32)
    d_u1, d_w1 = d_g1, d_g1
    d_g2 = tl.zeros((BLOCK_N, D2 if D2 > 0 else D1), tl.float32)
    d_u2, d_w2 = d_g2, d_g2
    tiles = tl.cdiv(R, BLOCK) if M == 0 else tl.cdiv(M, BLOCK) * (R // M)
    for tile in range(tl.program_id(1), tiles, tl.num_programs(1)):
        _, start, real = rows_of(tile, R, D, M, BLOCK)
        offsets1, real1 = offsets_of(start, real, 0, D1, D, M)
        x1, s1 = tl.load(x_ptr + offsets1, real1, 0.0), tl.load(d_sum_ptr + offsets1, real1, 0.0)
        x2, s2 = x1, s1
        if D2 > 0:
            offsets2, real2 = offsets_of(start, real, D1, D2, D, M)
            x2, s2 = tl.load(x_ptr + offsets2, real2, 0.0), tl.load(d_sum_ptr + offsets2, real2, 0.0)
        gate = product(g1, g2, tl.trans(x1), tl.trans(x2), D2)
        up = product(u1, u2, tl.trans(x1), tl.trans(x2), D2)
        d_act = product(w1, w2, tl.trans(s1), tl.trans(s2), D2)
        act, d_gate, d_up = swiglu_gradients(gate, up, d_act, x1.dtype == tl.float32)
        d_w1, d_w2 = _add(d_w1, d_w2, act.to(x1.dtype), s1, s2, D2)
        d_g1, d_g2 = _add(d_g1, d_g2, d_gate.to(x1.dtype), x1, x2, D2)
        d_u1, d_u2 = _add(d_u1, d_u2, d_up.to(x1.dtype), x1, x2, D2)
    rows_ptr = parts_ptr + (tl.program_id(1) * (3 * N) + n)[:, None] * W
    _store(rows_ptr, d_g1, d_g2, D1, D2)
    _store(rows_ptr + N * W, d_u1, d_u2, D1, D2)
    _store(rows_ptr + 2 * N * W, d_w1, d_w2, D1, D2)


def shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that a program may take on a GPU. On a CPU, where Triton interprets, there is no limit."""
    if device.type != "cuda":
        return sys.maxsize
    return int(triton.runtime.driver.active.utils.get_device_properties(device.index)["max_shared_mem"])


def _tile(width: int, M: int, device: torch.device) -> tuple[int, int, int, int]:
    """(Rows, inner features, warps, pipeline stages) of `_backward`: the fastest on an H200, if the device holds it."""
    if M and width == WIDEST_KERNEL_ROW and shared_memory(device) >= _WIDE_TILE:
        return 128, 64, 8, 3
    return 64, 32, 4, 2 if M else 3


def narrow_backward(
    x: Tensor, w_gate_up: Tensor, w_down: Tensor, norm: Tensor, scale_R: Tensor, d_out: Tensor, lambda_: float,
    sizes: dict[str, int],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(d_x, d_gate_up, d_down), from what `_forward` kept and the gradient of its result. The last two are float32."""
    D, N, M, W = sizes["D"], sizes["N"], sizes["M"], w_down.shape[0]
    R, d_x, d_sum = scale_R.shape[0], torch.empty_like(x), torch.empty_like(x)
    keep = not M and W > 64  # otherwise computing activations again is faster than storing them
    d_gates, act = x.new_empty(R * keep, 2 * N), x.new_empty(R * keep, N)
    block, block_n, warps, stages = _tile(W, M, x.device)
    _backward[grid_of(sizes, R, block)](
        x, w_gate_up, w_down, norm, scale_R, d_out, d_x, d_sum, d_gates, act, R, lambda_,
        **sizes, KEEP=keep, BLOCK=block, BLOCK_N=block_n, num_warps=warps, num_stages=stages,
    )  # fmt: skip
    if keep:
        d_gate_up, d_down = d_gates.T @ x.view(R, D), d_sum.view(R, D).T @ act
    else:
        block = 16 if W == WIDEST_KERNEL_ROW or x.dtype == torch.float32 else 32 if M else 64  # registers hold no more
        [tiles], shares = grid_of(sizes, R, block), N // 64
        P = min(tiles, max(1, _PROGRAMS // shares))
        parts = torch.empty(P, 3, N, W, device=x.device, dtype=torch.float32)
        _weights_backward[shares, P](
            x, d_sum, w_gate_up, w_down, parts, R,
            **sizes, BLOCK=block, BLOCK_N=64, num_warps=4, num_stages=3,
        )  # fmt: skip
        total = parts.sum(0)[..., :D]
        d_gate_up, d_down = total[:2].flatten(0, 1), total[2].T
    return d_x, d_gate_up.float(), d_down.float()
