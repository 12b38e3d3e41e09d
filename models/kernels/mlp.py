"""The residual SwiGLU of rows that fit into a tile, norm(x + down(silu(gate) * up)), in one kernel each way;
where wanted with a step towards it.

Shapes: R rows of D features; N inner features. With M = 0 the rows of x are its last axis. Otherwise x is
[B, D, M], its features are the positions, and its rows are the B * M columns (MixerBlock). A row is held in two
parts of D1 and D2 features, powers of two that waste less than one would (81 = 64 + 17 of 32); D2 may be 0.
Weights come in the activations' precision, padded to D1 + D2 (weights.at).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.kernels import weights
from models.kernels.gate_up import wide_mlp_norm
from models.kernels.noise import TARGET, Step, store_step
from models.kernels.norm import EPS, SMALL
from models.kernels.silu import swiglu, swiglu_gradients

_PROGRAMS = 264  # two for each multiprocessor of an H100


@triton.jit
def _rows(tile, R, D: tl.constexpr, M: tl.constexpr, BLOCK: tl.constexpr):
    """Of a tile: its rows, where they start in x, and which are real."""
    if M == 0:
        r = tile.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        return r, r * D, r < R
    else:
        tiles: tl.constexpr = (M + BLOCK - 1) // BLOCK
        m = (tile % tiles) * BLOCK + tl.arange(0, BLOCK)
        b = tl.cast(tile // tiles, tl.int64)
        return b * M + m, b * (D * M) + m, m < M


@triton.jit
def _at(start, real, FROM: tl.constexpr, WIDTH: tl.constexpr, D: tl.constexpr, M: tl.constexpr):
    """Places in x, and which are real, of `WIDTH` features of the rows."""
    d = FROM + tl.arange(0, WIDTH)
    step: tl.constexpr = 1 if M == 0 else M
    return start[:, None] + d[None, :] * step, real[:, None] & (d[None, :] < D)


@triton.jit
def _columns(ptr, STEP: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr):
    """Weights whose features lie STEP apart, as columns in two parts (the second is the first where D2 is 0)."""
    w1 = tl.load(ptr + tl.arange(0, D1)[:, None] * STEP)
    w2 = w1
    if D2 > 0:
        w2 = tl.load(ptr + (D1 + tl.arange(0, D2))[:, None] * STEP)
    return w1, w2


@triton.jit
def _product(x1, x2, w1, w2, D2: tl.constexpr):
    out = tl.dot(x1, w1, input_precision="ieee")
    if D2 > 0:
        out = tl.dot(x2, w2, out, input_precision="ieee")
    return out


@triton.jit
def _forward(
    x_ptr, gate_up_ptr, down_ptr, norm_ptr, scale_ptr, h_ptr, key_ptr, out_ptr, R, lambda_, noise_scale,
    D: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    r, start, real = _rows(tl.program_id(0), R, D, M, BLOCK)
    at1, real1 = _at(start, real, 0, D1, D, M)
    x1 = tl.load(x_ptr + at1, real1, 0.0)
    x2 = x1
    sum1 = x1.to(tl.float32)
    if D2 > 0:
        at2, real2 = _at(start, real, D1, D2, D, M)
        x2 = tl.load(x_ptr + at2, real2, 0.0)
        sum2 = x2.to(tl.float32)
    for first in range(0, N, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)
        g1, g2 = _columns(gate_up_ptr + n[None, :] * (D1 + D2), 1, D1, D2)
        u1, u2 = _columns(gate_up_ptr + (N + n)[None, :] * (D1 + D2), 1, D1, D2)
        act = swiglu(_product(x1, x2, g1, g2, D2), _product(x1, x2, u1, u2, D2), x1.dtype == tl.float32).to(x1.dtype)
        down = down_ptr + n[:, None]
        sum1 = tl.dot(act, tl.load(down + tl.arange(0, D1)[None, :] * N), sum1, input_precision="ieee")
        if D2 > 0:
            sum2 = tl.dot(act, tl.load(down + (D1 + tl.arange(0, D2))[None, :] * N), sum2, input_precision="ieee")
    square = tl.sum(sum1 * sum1, 1)
    if D2 > 0:
        square += tl.sum(sum2 * sum2, 1)
    scale = tl.rsqrt(square / D + EPS)
    tl.store(scale_ptr + r, scale, real)
    half: tl.constexpr = D1 // 2  # a half at a time takes fewer registers
    halves = tl.split(tl.permute(tl.reshape(sum1 * scale[:, None], (BLOCK, 2, half)), (0, 2, 1)))
    for i in tl.static_range(2):
        at, inside = _at(start, real, i * half, half, D, M)
        store_step(halves[i], norm_ptr, h_ptr, key_ptr, out_ptr, at, inside, r, lambda_, noise_scale, i * half, D1 + D2)
    if D2 > 0:
        norm2 = sum2 * scale[:, None]
        store_step(norm2, norm_ptr, h_ptr, key_ptr, out_ptr, at2, real2, r, lambda_, noise_scale, D1, D1 + D2)


@triton.jit
def _backward(
    x_ptr, gate_up_ptr, down_ptr, norm_ptr, scale_ptr, d_out_ptr, d_x_ptr, d_sum_ptr, d_gates_ptr, act_ptr, R, lambda_,
    D: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradient of x, and what those of the weights need.

    That is the gradient of the sum, and with M = 0 the activations [R, N] and the gradients of the gates [R, 2 N].
    """
    r, start, real = _rows(tl.program_id(0), R, D, M, BLOCK)
    scale = tl.load(scale_ptr + r, real, 0.0)
    at1, real1 = _at(start, real, 0, D1, D, M)
    x1 = tl.load(x_ptr + at1, real1, 0.0)
    norm1 = tl.load(norm_ptr + at1, real1, 0.0).to(tl.float32)
    d_norm1 = lambda_ * tl.load(d_out_ptr + at1, real1, 0.0).to(tl.float32)
    along = tl.sum(norm1 * d_norm1, 1)
    x2 = x1
    if D2 > 0:
        at2, real2 = _at(start, real, D1, D2, D, M)
        x2 = tl.load(x_ptr + at2, real2, 0.0)
        norm2 = tl.load(norm_ptr + at2, real2, 0.0).to(tl.float32)
        d_norm2 = lambda_ * tl.load(d_out_ptr + at2, real2, 0.0).to(tl.float32)
        along += tl.sum(norm2 * d_norm2, 1)
    d_x1 = (d_norm1 - norm1 * (along / D)[:, None]) * scale[:, None]
    d_sum1 = d_x1.to(x1.dtype)
    d_sum2 = d_sum1
    if D2 > 0:
        d_x2 = (d_norm2 - norm2 * (along / D)[:, None]) * scale[:, None]
        d_sum2 = d_x2.to(x1.dtype)
    tl.store(d_sum_ptr + at1, d_sum1, real1)
    if D2 > 0:
        tl.store(d_sum_ptr + at2, d_sum2, real2)
    for first in range(0, N, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)
        g1, g2 = _columns(gate_up_ptr + n[None, :] * (D1 + D2), 1, D1, D2)
        u1, u2 = _columns(gate_up_ptr + (N + n)[None, :] * (D1 + D2), 1, D1, D2)
        gate, up = _product(x1, x2, g1, g2, D2), _product(x1, x2, u1, u2, D2)
        w1, w2 = _columns(down_ptr + n[None, :], N, D1, D2)
        d_act = _product(d_sum1, d_sum2, w1, w2, D2)
        act, d_gate, d_up = swiglu_gradients(gate, up, d_act, x1.dtype == tl.float32)
        act, d_gate, d_up = act.to(x1.dtype), d_gate.to(x1.dtype), d_up.to(x1.dtype)
        d_x1 = tl.dot(d_gate, tl.trans(g1), d_x1, input_precision="ieee")
        d_x1 = tl.dot(d_up, tl.trans(u1), d_x1, input_precision="ieee")
        if D2 > 0:
            d_x2 = tl.dot(d_gate, tl.trans(g2), d_x2, input_precision="ieee")
            d_x2 = tl.dot(d_up, tl.trans(u2), d_x2, input_precision="ieee")
        if M == 0:
            inner = r[:, None] * (2 * N) + n[None, :]
            tl.store(act_ptr + r[:, None] * N + n[None, :], act, real[:, None])
            tl.store(d_gates_ptr + inner, d_gate, real[:, None])
            tl.store(d_gates_ptr + inner + N, d_up, real[:, None])
    tl.store(d_x_ptr + at1, d_x1.to(x1.dtype), real1)
    if D2 > 0:
        tl.store(d_x_ptr + at2, d_x2.to(x1.dtype), real2)


@triton.jit
def _store(ptr, first, second, D1: tl.constexpr, D2: tl.constexpr):
    tl.store(ptr + tl.arange(0, D1)[None, :], first)
    if D2 > 0:
        tl.store(ptr + D1 + tl.arange(0, D2)[None, :], second)


@triton.jit
def _add(sum1, sum2, inner, x1, x2, D2: tl.constexpr):
    """Both sums, and in them inner [BLOCK_N, BLOCK] @ x [BLOCK, D1 + D2]."""
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
    """Parts [P, 3, N, D1 + D2] of the gradients of gate, up and down's transpose, each from every P-th tile of rows.

    A program has BLOCK_N inner features; to make their activations again is faster than to write and read them.
    """
    W: tl.constexpr = D1 + D2
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    g1, g2 = _columns(gate_up_ptr + n[None, :] * W, 1, D1, D2)
    u1, u2 = _columns(gate_up_ptr + (N + n)[None, :] * W, 1, D1, D2)
    w1, w2 = _columns(down_ptr + n[None, :], N, D1, D2)
    g1, g2, u1, u2, w1, w2 = tl.trans(g1), tl.trans(g2), tl.trans(u1), tl.trans(u2), tl.trans(w1), tl.trans(w2)
    d_g1 = tl.zeros((BLOCK_N, D1), tl.float32)
    d_u1, d_w1 = d_g1, d_g1
    d_g2 = tl.zeros((BLOCK_N, D2 if D2 > 0 else D1), tl.float32)
    d_u2, d_w2 = d_g2, d_g2
    for tile in range(tl.program_id(1), tl.cdiv(M, BLOCK) * (R // M), tl.num_programs(1)):
        _, start, real = _rows(tile, R, D, M, BLOCK)
        at1, real1 = _at(start, real, 0, D1, D, M)
        x1, s1 = tl.load(x_ptr + at1, real1, 0.0), tl.load(d_sum_ptr + at1, real1, 0.0)
        x2, s2 = x1, s1
        if D2 > 0:
            at2, real2 = _at(start, real, D1, D2, D, M)
            x2, s2 = tl.load(x_ptr + at2, real2, 0.0), tl.load(d_sum_ptr + at2, real2, 0.0)
        gate = _product(g1, g2, tl.trans(x1), tl.trans(x2), D2)
        up = _product(u1, u2, tl.trans(x1), tl.trans(x2), D2)
        d_act = _product(w1, w2, tl.trans(s1), tl.trans(s2), D2)
        act, d_gate, d_up = swiglu_gradients(gate, up, d_act, x1.dtype == tl.float32)
        d_w1, d_w2 = _add(d_w1, d_w2, act.to(x1.dtype), s1, s2, D2)
        d_g1, d_g2 = _add(d_g1, d_g2, d_gate.to(x1.dtype), x1, x2, D2)
        d_u1, d_u2 = _add(d_u1, d_u2, d_up.to(x1.dtype), x1, x2, D2)
    at = parts_ptr + (tl.program_id(1) * (3 * N) + n)[:, None] * W
    _store(at, d_g1, d_g2, D1, D2)
    _store(at + N * W, d_u1, d_u2, D1, D2)
    _store(at + 2 * N * W, d_w1, d_w2, D1, D2)


def _parts(D: int) -> tuple[int, int]:
    """(D1, D2): powers of two, of 16 or more (D2 or 0), that hold D features with the least waste."""
    whole = max(16, triton.next_power_of_2(D))
    half = whole // 2
    rest = max(16, triton.next_power_of_2(D - half))
    return (half, rest) if half >= 16 and rest < half else (whole, 0)


def _grid(sizes: dict[str, int], R: int, block: int) -> tuple[int]:
    M = sizes["M"]
    return (triton.cdiv(M, block) * (R // M) if M else triton.cdiv(R, block),)


class _NarrowMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x: Tensor, gate_up: Tensor, down: Tensor, over_positions: bool, save: bool, h, lambda_, noise_scale
    ) -> Tensor:
        D, M = (x.shape[1], x.shape[2]) if over_positions else (x.shape[-1], 0)
        R, N = x.numel() // D, down.shape[1]
        D1, D2 = _parts(D)
        ctx.sizes = {"D": D, "D1": D1, "D2": D2, "M": M, "N": N}
        w_gate_up, w_down = weights.at(gate_up, x.dtype, columns=D1 + D2), weights.at(down, x.dtype, rows=D1 + D2)
        norm, key, out = Step(h, lambda_, noise_scale).outputs(x, save)
        scale_R = torch.empty(R, device=x.device, dtype=torch.float32)
        block, block_n, stages = (64, 32, 2) if D1 + D2 == SMALL else (128, 64, 2) if M else (128, 32, 3)
        _forward[_grid(ctx.sizes, R, block)](
            x, w_gate_up, w_down, norm, scale_R, h, key, out, R, lambda_, noise_scale,
            **ctx.sizes, BLOCK=block, BLOCK_N=block_n, num_warps=4, num_stages=stages,
        )  # fmt: skip
        ctx.save_for_backward(x, w_gate_up, w_down, norm, scale_R)
        ctx.lambda_ = lambda_
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor | None, ...]:
        x, w_gate_up, w_down, norm, scale_R = ctx.saved_tensors
        D, N, M, W = ctx.sizes["D"], ctx.sizes["N"], ctx.sizes["M"], w_down.shape[0]
        R, d_x, d_sum = scale_R.shape[0], torch.empty_like(x), torch.empty_like(x)
        kept = 0 if M else R
        d_gates, act = x.new_empty(kept, 2 * N), x.new_empty(kept, N)
        _backward[_grid(ctx.sizes, R, 64)](
            x, w_gate_up, w_down, norm, scale_R, d_out.contiguous(), d_x, d_sum, d_gates, act, R, ctx.lambda_,
            **ctx.sizes, BLOCK=64, BLOCK_N=32, num_warps=4, num_stages=2 if M else 3,
        )  # fmt: skip
        if M:
            block = 16 if W == SMALL or x.dtype == torch.float32 else 32  # what registers hold
            [tiles], shares = _grid(ctx.sizes, R, block), N // 64
            P = min(tiles, max(1, _PROGRAMS // shares))
            parts = torch.empty(P, 3, N, W, device=x.device, dtype=torch.float32)
            _weights_backward[shares, P](
                x, d_sum, w_gate_up, w_down, parts, R,
                **ctx.sizes, BLOCK=block, BLOCK_N=64, num_warps=4, num_stages=3,
            )  # fmt: skip
            total = parts.sum(0)[..., :D]
            d_gate_up, d_down = total[:2].flatten(0, 1), total[2].T
        else:
            d_gate_up, d_down = d_gates.T @ x.view(R, D), d_sum.view(R, D).T @ act
        d_h = (1.0 - ctx.lambda_) * d_out if ctx.needs_input_grad[5] else None
        return d_x, d_gate_up.float(), d_down.float(), None, None, d_h, None, None


def mlp_norm(x: Tensor, gate_up: Tensor, down: Tensor, over_positions: bool = False, step: Step = TARGET) -> Tensor:
    """norm(x + SwiGLU(x)) over the last axis of x [B, L, D], or over its positions; weights [2 N, D] and [D, N].

    Over the last axis also the step towards it.
    """
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, gate_up, down, step.h))
    if x.shape[1 if over_positions else -1] <= SMALL:
        return _NarrowMLP.apply(x.contiguous(), gate_up, down, over_positions, save, *step)
    if over_positions:
        assert step.h is None
        return wide_mlp_norm(x.transpose(1, 2), gate_up, down, save).transpose(1, 2)
    return wide_mlp_norm(x, gate_up, down, save, step)
