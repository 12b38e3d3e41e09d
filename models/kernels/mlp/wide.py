"""`mlp_norm` for rows too wide for one kernel: gate_up with silu(gate) * up, a library's product, residual and norm.

Shapes: R rows of D features; N inner features, a multiple of 128.

Without gradient both products can take 8 bits a number: float8 e4m3, with 4 significant bits and numbers up to 448.
Weights are scaled. Rows and inner features are not: rows come from a norm over D features or L positions, which leaves
no number above the root of D or L.
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable
from triton.tools.tensor_descriptor import TensorDescriptor

from models.kernels import weights
from models.kernels.mlp.silu import swiglu, swiglu_gradients
from models.kernels.noise import NO_RELAXATION, Relaxation
from models.kernels.norm import add_norm, add_norm_backward
from models.layers import rms_norm
from models.relaxation import relax

_BLOCK, _BLOCK_N, _BLOCK_D = 128, 64, 128  # the last in bytes
_PROGRAMS = 264  # two for each multiprocessor of an H100


@triton.jit
def _gate_up(
    x, weight, act, gates, scale_ptr, R,
    D: tl.constexpr, N: tl.constexpr, SAVE: tl.constexpr, EXACT: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """act [R, N] = silu(gate) * up; SAVE also stores `gates` [R, 2 N]. A program takes every n-th tile.

    The weight counts as multiplied by `scale` [1], if there is one.
    """
    tiles: tl.constexpr = N // BLOCK_N
    for tile in range(tl.program_id(0), tl.cdiv(R, BLOCK) * tiles, tl.num_programs(0)):
        r = (tile // tiles) * BLOCK
        n = (tile % tiles) * BLOCK_N
        gate = tl.zeros((BLOCK, BLOCK_N), tl.float32)
        up = tl.zeros((BLOCK, BLOCK_N), tl.float32)
        for d in range(0, D, BLOCK_D):
            rows = x.load([r, d])
            gate = tl.dot(rows, weight.load([n, d]).T, gate, input_precision="ieee")
            up = tl.dot(rows, weight.load([N + n, d]).T, up, input_precision="ieee")
        if scale_ptr is not None:
            scale = tl.load(scale_ptr)
            gate *= scale
            up *= scale
        kind = act.dtype
        act.store([r, n], swiglu(gate, up, EXACT).to(kind))
        if SAVE:
            gates.store([r, n], gate.to(kind))
            gates.store([r, N + n], up.to(kind))


@triton.jit
def _gates_backward(gates_ptr, d_act_ptr, d_gates_ptr, total, N: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = offsets < total
    inner = (offsets // N) * (2 * N) + offsets % N
    gate = tl.load(gates_ptr + inner, real, 0.0).to(tl.float32)
    up = tl.load(gates_ptr + inner + N, real, 0.0).to(tl.float32)
    d_act = tl.load(d_act_ptr + offsets, real, 0.0).to(tl.float32)
    kind = d_gates_ptr.dtype.element_ty
    _, d_gate, d_up = swiglu_gradients(gate, up, d_act, kind == tl.float32)
    tl.store(d_gates_ptr + inner, d_gate.to(kind), real)
    tl.store(d_gates_ptr + inner + N, d_up.to(kind), real)


class _WideMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, gate_up: Tensor, down: Tensor, save: bool, h, lambda_, noise_scale) -> Tensor:
        D, N = x.shape[-1], down.shape[1]
        x_RD = x.view(-1, D)
        R = x_RD.shape[0]
        w_gate_up, w_down = weights.kernel_copy(gate_up, x.dtype), weights.kernel_copy(down, x.dtype)
        act = x.new_empty(R, N)
        gates = x.new_empty(R, 2 * N) if save else None
        _multiply(x_RD, w_gate_up, act, x.dtype == torch.float32, gates)
        out, norm, scale_R = add_norm(x, act @ w_down.T, Relaxation(h, lambda_, noise_scale), save)
        ctx.save_for_backward(x, w_gate_up, w_down, gates, act, norm, scale_R)
        ctx.lambda_ = lambda_
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor | None, ...]:
        x, w_gate_up, w_down, gates, act, norm, scale_R = ctx.saved_tensors
        d_sum = add_norm_backward(norm, d_out, scale_R, ctx.lambda_).view(-1, x.shape[-1])
        d_act, d_gates = d_sum @ w_down, torch.empty_like(gates)
        grid = (triton.cdiv(act.numel(), 1024),)
        _gates_backward[grid](gates, d_act, d_gates, act.numel(), N=act.shape[1], BLOCK=1024)
        d_down = d_sum.T @ act
        d_x = d_sum.addmm_(d_gates, w_gate_up)
        d_h = (1.0 - ctx.lambda_) * d_out if ctx.needs_input_grad[4] else None
        return d_x.view_as(x), (d_gates.T @ x.view_as(d_x)).float(), d_down.float(), None, d_h, None, None


def _multiply(
    x_RD: Tensor, weight: Tensor, act: Tensor, exact: bool, gates: Tensor | None = None, scale: Tensor | None = None
) -> None:
    """Writes act [R, N], and gates [R, 2 N] if given. `exact` is for float32."""
    (R, D), N = x_RD.shape, act.shape[1]
    block_d = _BLOCK_D // x_RD.element_size()
    tile = {"BLOCK": _BLOCK, "BLOCK_N": _BLOCK_N, "BLOCK_D": block_d, "num_warps": 4, "num_stages": 3}
    _gate_up[min(triton.cdiv(R, _BLOCK) * (N // _BLOCK_N), _PROGRAMS),](
        TensorDescriptor.from_tensor(x_RD, [_BLOCK, block_d]),
        TensorDescriptor.from_tensor(weight, [_BLOCK_N, block_d]),
        TensorDescriptor.from_tensor(act, [_BLOCK, _BLOCK_N]),
        TensorDescriptor.from_tensor(act if gates is None else gates, [_BLOCK, _BLOCK_N]),
        scale, R, D=D, N=N, SAVE=gates is not None, EXACT=exact, **tile,
    )  # fmt: skip


def _swiglu_in_float8(x_RD: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """SwiGLU(x) [R, D] of normed rows."""
    (w_gate_up, gate_up_scale, _), (w_down, down_scale, unscaled) = (weights.in_float8(w) for w in (gate_up, down))
    act = torch.empty(x_RD.shape[0], down.shape[1], device=x_RD.device, dtype=weights.E4M3)
    _multiply(x_RD.to(weights.E4M3), w_gate_up, act, x_RD.dtype == torch.float32, scale=gate_up_scale)
    return torch._scaled_mm(act, w_down.T, unscaled, down_scale, out_dtype=x_RD.dtype, use_fast_accum=True)


def wide_mlp_norm(
    x: Tensor, gate_up: Tensor, down: Tensor, save: bool, relaxation: Relaxation = NO_RELAXATION, float8: bool = False
) -> Tensor:
    """`mlp_norm` for wide rows, over the last axis of x [..., D]. `save` keeps what gradients need."""
    if float8 and not save:
        x = x.contiguous()
        return add_norm(x, _swiglu_in_float8(x.flatten(0, -2), gate_up, down), relaxation, save=False)[0]
    if x.shape[-1] % 8:  # a descriptor needs every row to begin at a multiple of 16 bytes
        gate, up = F.linear(x, gate_up.to(x.dtype)).chunk(2, dim=-1)
        norm = rms_norm(x + F.linear(F.silu(gate) * up, down.to(x.dtype)))
        return norm if relaxation.h is None else relax(relaxation.h, norm, relaxation.lambda_, relaxation.noise_scale)
    return _WideMLP.apply(x.contiguous(), gate_up, down, save, *relaxation)
