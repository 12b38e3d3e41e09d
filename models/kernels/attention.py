"""Attention for small heads, with its projection and its rotary positions, forward and backward.

Shapes: B rows, L positions, H heads of K features, `KP` that rounded up to a power of two; E = 3 H K. Between
`project` and the output projection K is weights.stride of a head's features, with zeros to fill it up. The softmax is
one of powers of two: queries come multiplied by log2(e) / sqrt(K) (`rotate_`). The backward pass makes the scores
anew and, in two kernels, adds up everything in a fixed order: no atomics, so that two runs agree to the bit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.kernels import weights
from models.kernels.rotary import TOKENS, Rotation, project, rotate_

_LN_2 = tl.constexpr(0.6931471805599453)

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
def _rows(ptr, at, head, L, stride, K: tl.constexpr, KP: tl.constexpr):
    """Positions `at` of a head, [BLOCK, KP]; zeros outside."""
    k = tl.arange(0, KP)
    real = (at[:, None] < L) if K == KP else ((at[:, None] < L) & (k[None, :] < K))
    return tl.load(ptr + head + at[:, None] * stride + k[None, :], real, 0.0)


@triton.jit
def _store_rows(ptr, value, at, head, L, stride, K: tl.constexpr, KP: tl.constexpr):
    k = tl.arange(0, KP)
    real = (at[:, None] < L) & (k[None, :] < K)
    tl.store(ptr + head + at[:, None] * stride + k[None, :], value.to(ptr.dtype.element_ty), real)


@triton.jit
def _head(tile, L, H: tl.constexpr, K: tl.constexpr, TILES):
    """Of a program: its tile of positions, its head's number, where that head starts in qkv and in the output."""
    head = tile // TILES
    b, h = (head // H).to(tl.int64), head % H
    return tile % TILES, head.to(tl.int64), b * L * (3 * H * K) + h * K, b * L * (H * K) + h * K


@triton.jit
def _look(
    q, qkv_ptr, start, head, L, most, total, out,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK_N: tl.constexpr, EDGE: tl.constexpr,
    SAFE: tl.constexpr,
):  # fmt: skip
    """One tile of keys and values more: the running maximum (SAFE: none is needed) and sum, and the output."""
    at = start + tl.arange(0, BLOCK_N)
    k = _rows(qkv_ptr + H * K, at, head, L if EDGE else start + BLOCK_N, 3 * H * K, K, KP)
    v = _rows(qkv_ptr + 2 * H * K, at, head, L if EDGE else start + BLOCK_N, 3 * H * K, K, KP)
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
    tile, number, head, place = _head(tl.program_id(0), L, H, K, TILES)
    at = tile * BLOCK + tl.arange(0, BLOCK)
    q = _rows(qkv_ptr, at, head, L, 3 * H * K, K, KP)
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
    _store_rows(out_ptr, out / total[:, None], at, place, L, H * K, K, KP)
    tl.store(lse_ptr + number * L + at, most + tl.log2(total), at < L)


@triton.jit
def _look_back(
    q, d_out, lse, delta, d_q, qkv_ptr, start, head, L,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK_N: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    """The gradient of the queries, with one tile of keys and values more."""
    at = start + tl.arange(0, BLOCK_N)
    k = _rows(qkv_ptr + H * K, at, head, L if EDGE else start + BLOCK_N, 3 * H * K, K, KP)
    v = _rows(qkv_ptr + 2 * H * K, at, head, L if EDGE else start + BLOCK_N, 3 * H * K, K, KP)
    score = tl.dot(q, tl.trans(k), input_precision="ieee")
    d_p = tl.dot(d_out, tl.trans(v), input_precision="ieee")
    p = tl.exp2(score - lse[:, None])
    if EDGE:
        p = tl.where(at[None, :] < L, p, 0.0)
    d_score = (p * (d_p - delta[:, None])).to(q.dtype)
    return tl.dot(d_score, k, d_q, input_precision="ieee")


@triton.jit
def _widen(wide_ptr, rows, x, at, start, K: tl.constexpr, KW: tl.constexpr):
    """Keeps rows [BLOCK, KW] with minus x [BLOCK] as features K and K + 1: in two parts, off by 2^-17 in bfloat16."""
    k = tl.arange(0, KW)[None, :]
    high = (-x).to(rows.dtype)
    low = (-x - high.to(tl.float32)).to(rows.dtype)
    rows = tl.where(k == K, high[:, None], tl.where(k == K + 1, low[:, None], rows))
    tl.store(wide_ptr + (start + at[:, None]) * KW + k, rows)


@triton.jit
def _backward_q(
    qkv_ptr, out_ptr, d_out_ptr, lse_ptr, delta_ptr, q_wide_ptr, d_wide_ptr, d_qkv_ptr, L, TILES,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
    BLOCK_N: tl.constexpr, TAIL: tl.constexpr,
):  # fmt: skip
    """Also delta, for `_backward_kv`: the sum over features of the output times its gradient, [B H, L].

    WIDE: instead [B H, TILES BLOCK, KW], queries with minus lse, and gradients of the output with minus delta; zeros
    past L.
    """
    tile, number, head, place = _head(tl.program_id(0), L, H, K, TILES)
    at = tile * BLOCK + tl.arange(0, BLOCK)
    q = _rows(qkv_ptr, at, head, L, 3 * H * K, K, KP)
    d_out = _rows(d_out_ptr, at, place, L, H * K, K, KP)
    out = _rows(out_ptr, at, place, L, H * K, K, KP)
    lse = tl.load(lse_ptr + number * L + at, at < L, 0.0)
    delta = tl.sum(out.to(tl.float32) * d_out.to(tl.float32), 1)
    if WIDE:
        wide = number * TILES * BLOCK
        _widen(q_wide_ptr, _rows(qkv_ptr, at, head, L, 3 * H * K, K, KW), lse, at, wide, K, KW)
        _widen(d_wide_ptr, _rows(d_out_ptr, at, place, L, H * K, K, KW), delta, at, wide, K, KW)
    else:
        tl.store(delta_ptr + number * L + at, delta, at < L)
    d_q = tl.zeros((BLOCK, KP), tl.float32)
    whole = (L // BLOCK_N) * BLOCK_N
    if TAIL > 0:  # after the loop, ptxas would wait for every single product
        d_q = _look_back(q, d_out, lse, delta, d_q, qkv_ptr, whole, head, L, H, K, KP, TAIL, True)
    for start in range(0, whole, BLOCK_N):
        d_q = _look_back(q, d_out, lse, delta, d_q, qkv_ptr, start, head, L, H, K, KP, BLOCK_N, False)
    _store_rows(d_qkv_ptr, d_q * _LN_2, at, head, L, 3 * H * K, K, KP)


@triton.jit
def _rows_and_ones(ptr, at, head, L, stride, K: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr):
    """`_rows`. WIDE: with ones as features K and K + 1, by the load itself: so products take it from shared memory."""
    k, real = tl.arange(0, KW)[None, :], at[:, None] < L
    ones = (real & WIDE & ((k == K) | (k == K + 1))).to(ptr.dtype.element_ty)
    return tl.load(ptr + head + at[:, None] * stride + k, real & (k < K), ones)


@triton.jit
def _look_from(
    k, v, d_k, d_v, q_ptr, d_out_ptr, lse_ptr, delta_ptr, q_head, d_head, start, L, q_stride, d_stride,
    K: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr, BLOCK_N: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    """The gradients of keys and values, with one tile of queries more. Queries past L are zeros and add nothing."""
    n = start + tl.arange(0, BLOCK_N)
    end = L if EDGE else start + BLOCK_N
    q = _rows(q_ptr, n, q_head, end, q_stride, K, KW)
    d_out = _rows(d_out_ptr, n, d_head, end, d_stride, K, KW)
    score = tl.dot(k, tl.trans(q), input_precision="ieee")
    d_p = tl.dot(v, tl.trans(d_out), input_precision="ieee")
    if not WIDE:
        score -= tl.load(lse_ptr + n, n < end, 0.0)[None, :]
        d_p -= tl.load(delta_ptr + n, n < end, 0.0)[None, :]
    p = tl.exp2(score)
    d_k = tl.dot((p * d_p).to(q.dtype), q, d_k, input_precision="ieee")
    return d_k, tl.dot(p.to(q.dtype), d_out, d_v, input_precision="ieee")


@triton.jit
def _backward_kv(
    qkv_ptr, q_ptr, d_out_ptr, lse_ptr, delta_ptr, d_qkv_ptr, L, LP, TILES,
    H: tl.constexpr, K: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
    BLOCK_N: tl.constexpr, TAIL: tl.constexpr,
):  # fmt: skip
    """WIDE: q and d_out are what `_backward_q` keeps, [B H, LP, KW]; times the ones of keys and values, the products
    subtract lse and delta. Otherwise q is qkv."""
    tile, number, head, place = _head(tl.program_id(0), L, H, K, TILES)
    at = tile * BLOCK + tl.arange(0, BLOCK)
    k = _rows_and_ones(qkv_ptr + H * K, at, head, L, 3 * H * K, K, KW, WIDE)
    v = _rows_and_ones(qkv_ptr + 2 * H * K, at, head, L, 3 * H * K, K, KW, WIDE)
    d_k = tl.zeros((BLOCK, KW), tl.float32)
    d_v = tl.zeros((BLOCK, KW), tl.float32)
    q_head, d_head, q_stride, d_stride = head, place, 3 * H * K, H * K
    if WIDE:
        q_head, d_head, q_stride, d_stride = number * LP * KW, number * LP * KW, KW, KW
    else:
        lse_ptr += number * L
        delta_ptr += number * L
    KQ: tl.constexpr = KW if WIDE else K
    whole = (L // BLOCK_N) * BLOCK_N
    if TAIL > 0:
        d_k, d_v = _look_from(
            k, v, d_k, d_v, q_ptr, d_out_ptr, lse_ptr, delta_ptr, q_head, d_head, whole, L, q_stride, d_stride,
            KQ, KW, WIDE, TAIL, not WIDE,
        )  # fmt: skip
    for start in range(0, whole, BLOCK_N):
        d_k, d_v = _look_from(
            k, v, d_k, d_v, q_ptr, d_out_ptr, lse_ptr, delta_ptr, q_head, d_head, start, L, q_stride, d_stride,
            KQ, KW, WIDE, BLOCK_N, False,
        )  # fmt: skip
    _store_rows(d_qkv_ptr + H * K, d_k * _LN_2, at, head, L, 3 * H * K, K, KW)
    _store_rows(d_qkv_ptr + 2 * H * K, d_v, at, head, L, 3 * H * K, K, KW)


def _sizes(qkv_BLE: Tensor, heads: int) -> dict[str, int]:
    K = qkv_BLE.shape[2] // (3 * heads)
    return {"H": heads, "K": K, "KP": max(16, triton.next_power_of_2(K))}


def _tail(length: int, block: int) -> int:
    """The size of the tile that holds what whole tiles leave over; 0 where they leave nothing."""
    return max(16, triton.next_power_of_2(length % block)) if length % block else 0


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
        qkv_BLE, longest, out, lse, L, tiles, **_sizes(qkv_BLE, heads), BLOCK=block, BLOCK_N=block_n,
        TAIL=_tail(L, block_n), EACH=0 if longest is None else longest.shape[1], TOKENS=TOKENS,
        MANY=triton.next_power_of_2(L // TOKENS + 2), num_warps=8 if wide else 4,
    )  # fmt: skip
    return out, lse


def attend_backward(qkv_BLE: Tensor, heads: int, out: Tensor, lse: Tensor, d_out: Tensor) -> Tensor:
    """The gradient of `attend`'s queries, keys and values, [B, L, E]."""
    B, L, E = qkv_BLE.shape
    sizes, block = _sizes(qkv_BLE, heads), 64
    K, KW = sizes["K"], max(16, triton.next_power_of_2(sizes["K"] + 2))
    wide = KW <= 32  # wider rows would cost more than they save
    sizes |= {"KW": KW if wide else sizes["KP"], "WIDE": wide}
    tiles = triton.cdiv(L, block)
    grid, LP = (B * heads * tiles,), tiles * block
    d_qkv, delta = torch.empty_like(qkv_BLE), None if wide else torch.empty_like(lse)
    q_rows, d_rows = qkv_BLE.new_empty(2, B * heads, LP, KW) if wide else (None, None)
    _backward_q[grid](
        qkv_BLE, out, d_out, lse, delta, q_rows, d_rows, d_qkv, L, tiles, **sizes, BLOCK=block, BLOCK_N=64,
        TAIL=_tail(L, 64), num_warps=4, num_stages=4,
    )  # fmt: skip
    if not wide:
        q_rows, d_rows = qkv_BLE, d_out
    block_n = 64 if wide else 32
    _backward_kv[grid](
        qkv_BLE, q_rows, d_rows, lse, delta, d_qkv, L, LP, tiles, H=heads, K=K, KW=sizes["KW"], WIDE=wide, BLOCK=block,
        BLOCK_N=block_n, TAIL=_tail(L, block_n), num_warps=4, num_stages=3,
    )  # fmt: skip
    return d_qkv


class _SelfAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h: Tensor, qkv: Tensor, heads: int, rotation: Rotation | None) -> Tensor:
        qkv_BLE, longest = project(h, qkv, heads, rotation)
        out, lse = attend(qkv_BLE, heads, longest)
        K = h.shape[2] // heads
        ctx.save_for_backward(h, weights.at(qkv, h.dtype, heads=(0, K)), qkv_BLE, out, lse)
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
