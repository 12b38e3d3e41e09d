"""Attention for small heads, with its projection and its rotary positions.

Shapes: B rows, L positions, H heads of K features, `KP` that rounded up to a power of two; E = 3 H K. Between
`project` and the output projection K is weights.stride of a head's features, with zeros to fill it up. The softmax is
one of powers of two: queries come multiplied by log2(e) / sqrt(K) (`rotate_`).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.kernels import weights
from models.kernels.attention_backward import attend_backward
from models.kernels.heads import load_rows, place_of, sizes_of, store_rows, tail_of
from models.kernels.rotary import TOKENS, Rotation, project, rotate_

_SEVEN = "".join(f"ex2.approx.ftz.f32 ${i}, ${i + 8};" for i in range(7))
_EIGHTH = """
    add.rn.f32 whole, $15, 0f4B400000;  // 1.5 * 2^23: rounds, and leaves the whole number in the low bits
    sub.rn.f32 rest, whole, 0f4B400000;
    sub.rn.f32 rest, $15, rest;
    fma.rn.f32 power, rest, 0f3D61FBAF, 0f3E786F0D;
    fma.rn.f32 power, power, rest, 0f3F31798D;
    fma.rn.f32 power, power, rest, 0f3F7FFB49;
    mov.b32 exponent, whole;
    mov.b32 bits, power;
    mad.lo.s32 $7, exponent, 8388608, bits;
"""
_POWERS = tl.constexpr("{.reg .f32 whole, rest, power; .reg .b32 exponent, bits;" + _SEVEN + _EIGHTH + "}")
_PLACES = tl.constexpr("=&f,=&f,=&f,=&f,=&f,=&f,=&f,=&r,f,f,f,f,f,f,f,f")  # &: written before all is read


@triton.jit
def _exp2(x, EXACT: tl.constexpr):
    """Powers of two. Not EXACT: of |x| < 60 only, and one in eight on the multiply-add units: the others are busy.

    That one is a polynomial of degree 3, off by 7.5e-5 at most; rounding to bfloat16 is by up to 3.9e-3.
    """
    if EXACT:
        return tl.exp2(x)
    return tl.inline_asm_elementwise(_POWERS, _PLACES, [x], tl.float32, is_pure=True, pack=8)


@triton.jit
def _look(
    q, qkv_ptr, start, head, L, most, total, out,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK_N: tl.constexpr, EDGE: tl.constexpr,
    SAFE: tl.constexpr,
):  # fmt: skip
    """One tile of keys and values more: the running maximum (SAFE: none is needed) and sum, and the output."""
    at = start + tl.arange(0, BLOCK_N)
    k = load_rows(qkv_ptr + H * K, at, head, L if EDGE else start + BLOCK_N, 3 * H * K, K, KP)
    v = load_rows(qkv_ptr + 2 * H * K, at, head, L if EDGE else start + BLOCK_N, 3 * H * K, K, KP)
    score = tl.dot(q, tl.trans(k), input_precision="ieee")
    if EDGE:
        score = tl.where(at[None, :] < L, score, float("-inf"))
    if SAFE:
        p = _exp2(score, EDGE or v.dtype == tl.float32)
    else:
        higher = tl.maximum(most, tl.max(score, 1))
        p = tl.exp2(score - higher[:, None])
        shrink = tl.exp2(most - higher)
        total *= shrink
        out *= shrink[:, None]
        most = higher
    total += tl.sum(p, 1)
    return most, total, tl.dot(p.to(v.dtype), v, out, input_precision="ieee")


@triton.jit
def _look_all(
    q, qkv_ptr, head, L, most, total, out,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK_N: tl.constexpr, TAIL: tl.constexpr,
    SAFE: tl.constexpr,
):  # fmt: skip
    whole = (L // BLOCK_N) * BLOCK_N
    for start in range(0, whole, BLOCK_N):
        most, total, out = _look(q, qkv_ptr, start, head, L, most, total, out, H, K, KP, BLOCK_N, False, SAFE)
    if TAIL > 0:
        most, total, out = _look(q, qkv_ptr, whole, head, L, most, total, out, H, K, KP, TAIL, True, SAFE)
    return most, total, out


@triton.jit
def _forward(
    qkv_ptr, longest_ptr, out_ptr, lse_ptr, L, TILES,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr, BLOCK_N: tl.constexpr,
    TAIL: tl.constexpr, EACH: tl.constexpr, TOKENS: tl.constexpr, MANY: tl.constexpr,
):  # fmt: skip
    tile, number, head, place = place_of(tl.program_id(0), L, H, K, TILES)
    at = tile * BLOCK + tl.arange(0, BLOCK)
    q = load_rows(qkv_ptr, at, head, L, 3 * H * K, K, KP)
    most = tl.zeros((BLOCK,), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    out = tl.zeros((BLOCK, KP), tl.float32)
    safe = False
    if EACH > 0:
        # |q k| <= |q| max |k|. Where no score passes 2^60, a sum of 2^score neither overflows nor vanishes, and is as
        # exact in float32 as one of 2^(score - maximum); in bfloat16 a row that one key dominates is off by 2^-9 more.
        b, h = number // H, number % H
        tiles = (b * L) // TOKENS + tl.arange(0, MANY)
        keys = tl.load(longest_ptr + tiles * EACH + h % EACH, tiles <= ((b + 1) * L - 1) // TOKENS, 0.0)
        q32 = q.to(tl.float32)
        safe = tl.max(tl.sum(q32 * q32, 1), 0) * tl.max(keys, 0) < 3600.0
    if safe:
        most, total, out = _look_all(q, qkv_ptr, head, L, most, total, out, H, K, KP, BLOCK_N, TAIL, True)
    else:
        most += float("-inf")
        most, total, out = _look_all(q, qkv_ptr, head, L, most, total, out, H, K, KP, BLOCK_N, TAIL, False)
    store_rows(out_ptr, out / total[:, None], at, place, L, H * K, K, KP)
    tl.store(lse_ptr + number * L + at, most + tl.log2(total), at < L)


def attend(qkv_BLE: Tensor, heads: int, longest: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(2^(q k^T) v over the sums of 2^(q k^T), [B, L, H K]; log2 of these sums, [B H, L]).

    `longest` (from `project`) lets tiles whose scores cannot grow large do without a running maximum.
    """
    if qkv_BLE.dtype == torch.float16:  # whose exponents would not reach
        longest = None
    B, L, E = qkv_BLE.shape
    out, lse = qkv_BLE.new_empty(B, L, E // 3), torch.empty(B * heads, L, device=qkv_BLE.device)
    wide = E // (3 * heads) > 16
    block, block_n = (128, 64) if wide else (64, 64)
    tiles = triton.cdiv(L, block)
    _forward[B * heads * tiles,](
        qkv_BLE, longest, out, lse, L, tiles, **sizes_of(qkv_BLE, heads), BLOCK=block, BLOCK_N=block_n,
        TAIL=tail_of(L, block_n), EACH=0 if longest is None else longest.shape[1], TOKENS=TOKENS,
        MANY=triton.next_power_of_2(L // TOKENS + 2), num_warps=8 if wide else 4,
    )  # fmt: skip
    return out, lse


class _SelfAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h: Tensor, qkv: Tensor, heads: int, rotation: Rotation | None) -> Tensor:
        qkv_BLE, longest = project(h, qkv, heads, rotation)
        out, lse = attend(qkv_BLE, heads, longest)
        K = h.shape[2] // heads
        ctx.save_for_backward(h, weights.kernel_copy(qkv, h.dtype, heads=(0, K)), qkv_BLE, out, lse)
        ctx.heads, ctx.K, ctx.rotation = heads, K, rotation
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor, Tensor, None, None]:
        h, w_qkv, qkv_BLE, out, lse = ctx.saved_tensors
        d_qkv = attend_backward(qkv_BLE, ctx.heads, out, lse, d_out.contiguous())
        rotate_(d_qkv, ctx.heads, ctx.K, ctx.rotation, -1.0)
        d_weight = d_qkv.flatten(0, 1).T @ h.flatten(0, 1)
        return d_qkv @ w_qkv, weights.gather(d_weight, 0, ctx.K).float(), None, None


def self_attention(h_BLD: Tensor, qkv: Tensor, heads: int, rotation: Rotation | None) -> Tensor:
    """Attention [B, L, H K] of h, with the projection's weight [3 D, D], before the output projection."""
    return _SelfAttention.apply(h_BLD.contiguous(), qkv, heads, rotation)
