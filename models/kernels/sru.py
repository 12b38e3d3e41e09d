"""The recurrence of Simple Recurrent Units (`models/sru.py`): one kernel forward and one backward.

A program has one row and BLOCK features, one feature a thread. It walks over the positions, and loads the next position
while it works on this one. It carries the cells in float32. Gradients repeat to the bit: no sum is atomic, and PyTorch
adds up one part a row.

Shapes: B rows, L positions, D features; u [B, L, D, 3] may have any strides.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

WARP = 32
BLOCK = 4 * WARP  # most features of a program


@triton.jit
def _load_u(u_ptr, u_3, inside):
    """(u0, u1, u2) of one position."""
    return (
        tl.load(u_ptr, inside, 0.0),
        tl.load(u_ptr + u_3, inside, 0.0),
        tl.load(u_ptr + 2 * u_3, inside, 0.0),
    )


@triton.jit
def _load_gates(weight_ptr, bias_ptr, d, D, inside):
    """(v_f, v_r, b_f, b_r) as float32."""
    return (
        tl.load(weight_ptr + d, inside, 0.0).to(tl.float32),
        tl.load(weight_ptr + D + d, inside, 0.0).to(tl.float32),
        tl.load(bias_ptr + d, inside, 0.0).to(tl.float32),
        tl.load(bias_ptr + D + d, inside, 0.0).to(tl.float32),
    )


@triton.jit
def _forward(
    u_ptr, x_ptr, c_ptr, weight_ptr, bias_ptr, mask_ptr, out_ptr, cells_ptr, last_ptr,
    L, D, u_B, u_L, u_D, u_3,
    MASKED: tl.constexpr, KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = d < D
    v_f, v_r, b_f, b_r = _load_gates(weight_ptr, bias_ptr, d, D, inside)
    c = tl.load(c_ptr + row * D + d, inside, 0.0).to(tl.float32)
    if MASKED:
        scale = tl.load(mask_ptr + row * D + d, inside, 0.0).to(tl.float32)
    u_ptr += row * u_B + d * u_D
    x_ptr += row * L * D + d
    out_ptr += row * L * D + d
    if KEEP:
        cells_ptr += row * L * D + d
    u0, u1, u2 = _load_u(u_ptr, u_3, inside)
    x = tl.load(x_ptr, inside, 0.0)
    for t in range(L):
        u_ptr += u_L
        x_ptr += D
        ahead = d < tl.where(t + 1 < L, D, 0)  # nothing after the last position
        next_u0, next_u1, next_u2 = _load_u(u_ptr, u_3, ahead)
        next_x = tl.load(x_ptr, ahead, 0.0)
        if KEEP:
            tl.store(cells_ptr, c.to(cells_ptr.dtype.element_ty), inside)
            cells_ptr += D
        forget = tl.sigmoid(u1.to(tl.float32) + v_f * c + b_f)
        reset = tl.sigmoid(u2.to(tl.float32) + v_r * c + b_r)
        c = u0.to(tl.float32) + (c - u0.to(tl.float32)) * forget
        shown = c
        if MASKED:
            shown = c * scale
        out = x.to(tl.float32) + (shown - x.to(tl.float32)) * reset
        tl.store(out_ptr, out.to(out_ptr.dtype.element_ty), inside)
        out_ptr += D
        u0, u1, u2, x = next_u0, next_u1, next_u2, next_x
    tl.store(last_ptr + row * D + d, c.to(last_ptr.dtype.element_ty), inside)


@triton.jit
def _backward(
    u_ptr, x_ptr, weight_ptr, bias_ptr, mask_ptr, cells_ptr, last_ptr, d_out_ptr, d_last_ptr,
    d_u_ptr, d_x_ptr, d_c_ptr, d_mask_ptr, parts_ptr,
    L, D, u_B, u_L, u_D, u_3, du_B, du_L, du_D, du_3,
    MASKED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = d < D
    v_f, v_r, b_f, b_r = _load_gates(weight_ptr, bias_ptr, d, D, inside)
    after = tl.load(last_ptr + row * D + d, inside, 0.0).to(tl.float32)
    d_c = tl.load(d_last_ptr + row * D + d, inside, 0.0).to(tl.float32)
    if MASKED:
        scale = tl.load(mask_ptr + row * D + d, inside, 0.0).to(tl.float32)
    d_scale = tl.zeros([BLOCK], tl.float32)
    d_v_f = tl.zeros([BLOCK], tl.float32)
    d_v_r = tl.zeros([BLOCK], tl.float32)
    d_b_f = tl.zeros([BLOCK], tl.float32)
    d_b_r = tl.zeros([BLOCK], tl.float32)
    end = (row * L + L - 1) * D + d  # the last position, where the walk back begins
    u_ptr += row * u_B + (L - 1) * u_L + d * u_D
    d_u_ptr += row * du_B + (L - 1) * du_L + d * du_D
    x_ptr += end
    cells_ptr += end
    d_out_ptr += end
    d_x_ptr += end
    u0, u1, u2 = _load_u(u_ptr, u_3, inside)
    x = tl.load(x_ptr, inside, 0.0)
    cell = tl.load(cells_ptr, inside, 0.0)
    d_out = tl.load(d_out_ptr, inside, 0.0)
    for t in range(L):
        u_ptr -= u_L
        x_ptr -= D
        cells_ptr -= D
        d_out_ptr -= D
        ahead = d < tl.where(t + 1 < L, D, 0)  # nothing after the last position
        next_u0, next_u1, next_u2 = _load_u(u_ptr, u_3, ahead)
        next_x = tl.load(x_ptr, ahead, 0.0)
        next_cell = tl.load(cells_ptr, ahead, 0.0)
        next_d_out = tl.load(d_out_ptr, ahead, 0.0)

        a, h, before, g = u0.to(tl.float32), x.to(tl.float32), cell.to(tl.float32), d_out.to(tl.float32)
        forget = tl.sigmoid(u1.to(tl.float32) + v_f * before + b_f)
        reset = tl.sigmoid(u2.to(tl.float32) + v_r * before + b_r)
        if MASKED:
            d_scale += g * reset * after
            d_reset = g * (after * scale - h) * reset * (1 - reset)
            d_c += g * reset * scale
        else:
            d_reset = g * (after - h) * reset * (1 - reset)
            d_c += g * reset
        d_forget = d_c * (before - a) * forget * (1 - forget)  # like d_reset, the gradient inside the sigmoid
        tl.store(d_x_ptr, (g * (1 - reset)).to(d_x_ptr.dtype.element_ty), inside)
        tl.store(d_u_ptr, (d_c * (1 - forget)).to(d_u_ptr.dtype.element_ty), inside)
        tl.store(d_u_ptr + du_3, d_forget.to(d_u_ptr.dtype.element_ty), inside)
        tl.store(d_u_ptr + 2 * du_3, d_reset.to(d_u_ptr.dtype.element_ty), inside)
        d_v_f += d_forget * before
        d_v_r += d_reset * before
        d_b_f += d_forget
        d_b_r += d_reset
        d_c = d_c * forget + d_forget * v_f + d_reset * v_r
        after = before
        d_x_ptr -= D
        d_u_ptr -= du_L
        u0, u1, u2, x, cell, d_out = next_u0, next_u1, next_u2, next_x, next_cell, next_d_out
    tl.store(d_c_ptr + row * D + d, d_c.to(d_c_ptr.dtype.element_ty), inside)
    if MASKED:
        tl.store(d_mask_ptr + row * D + d, d_scale.to(d_mask_ptr.dtype.element_ty), inside)
    parts_ptr += row * 4 * D + d
    tl.store(parts_ptr, d_v_f, inside)
    tl.store(parts_ptr + D, d_v_r, inside)
    tl.store(parts_ptr + 2 * D, d_b_f, inside)
    tl.store(parts_ptr + 3 * D, d_b_r, inside)


def _launch(B: int, D: int) -> tuple[tuple[int, int], dict[str, int]]:
    """(The grid, the size of a program)."""
    block = min(BLOCK, max(WARP, triton.next_power_of_2(D)))
    return (B, triton.cdiv(D, block)), {"BLOCK": block, "num_warps": block // WARP}


def _scan(
    keep: bool, u_BLD3: Tensor, x_BLD: Tensor, c_BD: Tensor, weight_c: Tensor, bias: Tensor, mask_BD: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(Outputs, the last cells, the cells [B, L, D] before every position if `keep`). Only u may be strided."""
    B, L, D = x_BLD.shape
    out_BLD, last_BD = torch.empty_like(x_BLD), torch.empty_like(c_BD)
    cells_BLD = torch.empty_like(x_BLD) if keep else None
    grid, size = _launch(B, D)
    _forward[grid](
        u_BLD3, x_BLD, c_BD, weight_c, bias, mask_BD, out_BLD, cells_BLD, last_BD,
        L, D, *u_BLD3.stride(), MASKED=mask_BD is not None, KEEP=keep, **size,
    )  # fmt: skip
    return out_BLD, last_BD, cells_BLD


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u_BLD3, x_BLD, c_BD, weight_c, bias, mask_BD):
        out_BLD, last_BD, cells_BLD = _scan(True, u_BLD3, x_BLD, c_BD, weight_c, bias, mask_BD)
        ctx.save_for_backward(u_BLD3, x_BLD, weight_c, bias, mask_BD, cells_BLD, last_BD)
        return out_BLD, last_BD

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out_BLD, d_last_BD):
        u_BLD3, x_BLD, weight_c, bias, mask_BD, cells_BLD, last_BD = ctx.saved_tensors
        B, L, D = x_BLD.shape
        d_u, d_x, d_c = torch.empty_like(u_BLD3), torch.empty_like(x_BLD), torch.empty_like(last_BD)
        d_mask = None if mask_BD is None else torch.empty_like(mask_BD)
        parts_B4D = torch.empty(B, 4, D, device=x_BLD.device, dtype=torch.float32)
        grid, size = _launch(B, D)
        _backward[grid](
            u_BLD3, x_BLD, weight_c, bias, mask_BD, cells_BLD, last_BD, d_out_BLD.contiguous(), d_last_BD.contiguous(),
            d_u, d_x, d_c, d_mask, parts_B4D,
            L, D, *u_BLD3.stride(), *d_u.stride(), MASKED=mask_BD is not None, **size,
        )  # fmt: skip
        d_weight, d_bias = parts_B4D.sum(0).view(2, 2 * D)
        return d_u, d_x, d_c, d_weight.to(weight_c.dtype), d_bias.to(bias.dtype), d_mask


def sru_scan(
    u_BLD3: Tensor, x_BLD: Tensor, c_BD: Tensor, weight_c: Tensor, bias: Tensor, c_mask_BD: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What `models.sru.sru_scan` computes, on a GPU. Inputs may mix dtypes.

    Gradients reach every input. For them the cells stay in memory, [B, L, D] in the dtype of x.
    """
    x_BLD, c_BD, weight_c, bias = (t.contiguous() for t in (x_BLD, c_BD, weight_c, bias))
    mask_BD = None if c_mask_BD is None else c_mask_BD.contiguous()
    if torch.is_grad_enabled():
        out_BLD, last_BD = _Scan.apply(u_BLD3, x_BLD, c_BD, weight_c, bias, mask_BD)
    else:
        out_BLD, last_BD, _ = _scan(False, u_BLD3, x_BLD, c_BD, weight_c, bias, mask_BD)
    return out_BLD, last_BD
