"""Attention for small heads, with its projection and its rotary positions, forward and backward.

Shapes: B rows, L positions, H heads of K features, `KP` that rounded up to a power of two; E = 3 H K. The softmax
works in powers of two. The backward pass makes the scores anew and, in two kernels, adds up everything in a fixed
order: no atomics, so that two runs agree to the bit.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.kernels import weights
from models.kernels.rotary import TOKENS, Rotation, rotate_

_LOG2_E = 1.4426950408889634


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
    q, qkv_ptr, start, head, L, most, total, out, scale,
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
        p = tl.exp2(score * scale)
    else:
        higher = tl.maximum(most, tl.max(score, 1) * scale)
        p = tl.exp2(score * scale - higher[:, None])
        shrink = tl.exp2(most - higher)
        total *= shrink
        out *= shrink[:, None]
        most = higher
    total += tl.sum(p, 1)
    return most, total, tl.dot(p.to(v.dtype), v, out, input_precision="ieee")


@triton.jit
def _look_all(
    q, qkv_ptr, head, L, most, total, out, scale,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK_N: tl.constexpr, TAIL: tl.constexpr,
    SAFE: tl.constexpr,
):  # fmt: skip
    whole = (L // BLOCK_N) * BLOCK_N
    for start in range(0, whole, BLOCK_N):
        most, total, out = _look(q, qkv_ptr, start, head, L, most, total, out, scale, H, K, KP, BLOCK_N, False, SAFE)
    if TAIL > 0:
        most, total, out = _look(q, qkv_ptr, whole, head, L, most, total, out, scale, H, K, KP, TAIL, True, SAFE)
    return most, total, out


@triton.jit
def _forward(
    qkv_ptr, longest_ptr, out_ptr, lse_ptr, L, scale, TILES,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr, BLOCK_N: tl.constexpr,
    TAIL: tl.constexpr, BOUND: tl.constexpr, TOKENS: tl.constexpr, MANY: tl.constexpr,
):  # fmt: skip
    tile, number, head, place = _head(tl.program_id(0), L, H, K, TILES)
    at = tile * BLOCK + tl.arange(0, BLOCK)
    q = _rows(qkv_ptr, at, head, L, 3 * H * K, K, KP)
    most = tl.zeros((BLOCK,), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    out = tl.zeros((BLOCK, KP), tl.float32)
    safe = False
    if BOUND:
        # |q k| <= |q| max |k|. Where no score passes 2^60, a sum of 2^score neither overflows nor vanishes, and
        # is as exact in bfloat16 and float32 as one of 2^(score - maximum).
        b, h = number // H, number % H
        tiles = (b * L) // TOKENS + tl.arange(0, MANY)
        keys = tl.load(longest_ptr + tiles * (2 * H) + H + h, tiles <= ((b + 1) * L - 1) // TOKENS, 0.0)
        q32 = q.to(tl.float32)
        safe = tl.max(tl.sum(q32 * q32, 1), 0) * tl.max(keys, 0) * scale * scale < 3600.0
    if safe:
        most, total, out = _look_all(q, qkv_ptr, head, L, most, total, out, scale, H, K, KP, BLOCK_N, TAIL, True)
    else:
        most += float("-inf")
        most, total, out = _look_all(q, qkv_ptr, head, L, most, total, out, scale, H, K, KP, BLOCK_N, TAIL, False)
    _store_rows(out_ptr, out / total[:, None], at, place, L, H * K, K, KP)
    tl.store(lse_ptr + number * L + at, most + tl.log2(total), at < L)


@triton.jit
def _delta(
    out_ptr, d_out_ptr, delta_ptr, L, TILES, H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr
):
    """delta [B H, L] = sum over features of output * its gradient."""
    tile, number, _, place = _head(tl.program_id(0), L, H, K, TILES)
    at = tile * BLOCK + tl.arange(0, BLOCK)
    out = _rows(out_ptr, at, place, L, H * K, K, KP).to(tl.float32)
    d_out = _rows(d_out_ptr, at, place, L, H * K, K, KP).to(tl.float32)
    tl.store(delta_ptr + number * L + at, tl.sum(out * d_out, 1), at < L)


@triton.jit
def _look_back(
    q, d_out, lse, delta, d_q, qkv_ptr, start, head, L, scale,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK_N: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    """The gradient of the queries, with one tile of keys and values more."""
    at = start + tl.arange(0, BLOCK_N)
    k = _rows(qkv_ptr + H * K, at, head, L if EDGE else start + BLOCK_N, 3 * H * K, K, KP)
    v = _rows(qkv_ptr + 2 * H * K, at, head, L if EDGE else start + BLOCK_N, 3 * H * K, K, KP)
    p = tl.exp2(tl.dot(q, tl.trans(k), input_precision="ieee") * scale - lse[:, None])
    if EDGE:
        p = tl.where(at[None, :] < L, p, 0.0)
    d_p = tl.dot(d_out, tl.trans(v), input_precision="ieee")
    d_score = (p * (d_p - delta[:, None])).to(q.dtype)
    return tl.dot(d_score, k, d_q, input_precision="ieee")


@triton.jit
def _backward_q(
    qkv_ptr, d_out_ptr, lse_ptr, delta_ptr, d_qkv_ptr, L, scale, factor, TILES,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr, BLOCK_N: tl.constexpr,
    TAIL: tl.constexpr,
):  # fmt: skip
    tile, number, head, place = _head(tl.program_id(0), L, H, K, TILES)
    at = tile * BLOCK + tl.arange(0, BLOCK)
    q = _rows(qkv_ptr, at, head, L, 3 * H * K, K, KP)
    d_out = _rows(d_out_ptr, at, place, L, H * K, K, KP)
    lse = tl.load(lse_ptr + number * L + at, at < L, 0.0)
    delta = tl.load(delta_ptr + number * L + at, at < L, 0.0)
    d_q = tl.zeros((BLOCK, KP), tl.float32)
    whole = (L // BLOCK_N) * BLOCK_N
    for start in range(0, whole, BLOCK_N):
        d_q = _look_back(q, d_out, lse, delta, d_q, qkv_ptr, start, head, L, scale, H, K, KP, BLOCK_N, False)
    if TAIL > 0:
        d_q = _look_back(q, d_out, lse, delta, d_q, qkv_ptr, whole, head, L, scale, H, K, KP, TAIL, True)
    _store_rows(d_qkv_ptr, d_q * factor, at, head, L, 3 * H * K, K, KP)


@triton.jit
def _backward_kv(
    qkv_ptr, d_out_ptr, lse_ptr, delta_ptr, d_qkv_ptr, L, scale, factor, TILES,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    tile, number, head, place = _head(tl.program_id(0), L, H, K, TILES)
    at = tile * BLOCK + tl.arange(0, BLOCK)  # keys and values; n are queries
    k = _rows(qkv_ptr + H * K, at, head, L, 3 * H * K, K, KP)
    v = _rows(qkv_ptr + 2 * H * K, at, head, L, 3 * H * K, K, KP)
    d_k = tl.zeros((BLOCK, KP), tl.float32)
    d_v = tl.zeros((BLOCK, KP), tl.float32)
    for start in range(0, L, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        q = _rows(qkv_ptr, n, head, L, 3 * H * K, K, KP)
        d_out = _rows(d_out_ptr, n, place, L, H * K, K, KP)
        lse = tl.load(lse_ptr + number * L + n, n < L, 0.0)
        delta = tl.load(delta_ptr + number * L + n, n < L, 0.0)
        p = tl.exp2(tl.dot(k, tl.trans(q), input_precision="ieee") * scale - lse[None, :])
        d_v = tl.dot(p.to(q.dtype), d_out, d_v, input_precision="ieee")  # queries past the end: d_out is zero
        d_p = tl.dot(v, tl.trans(d_out), input_precision="ieee")
        d_score = (p * (d_p - delta[None, :])).to(q.dtype)
        d_k = tl.dot(d_score, q, d_k, input_precision="ieee")
    _store_rows(d_qkv_ptr + H * K, d_k * factor, at, head, L, 3 * H * K, K, KP)
    _store_rows(d_qkv_ptr + 2 * H * K, d_v, at, head, L, 3 * H * K, K, KP)


def _sizes(qkv_BLE: Tensor, heads: int) -> dict[str, int | str]:
    K = qkv_BLE.shape[2] // (3 * heads)
    return {"H": heads, "K": K, "KP": max(16, triton.next_power_of_2(K))}


def _tail(length: int, block: int) -> int:
    """The size of the tile that holds what whole tiles leave over; 0 where they leave nothing."""
    return max(16, triton.next_power_of_2(length % block)) if length % block else 0


def attend(qkv_BLE: Tensor, heads: int, longest: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(softmax(q k^T / sqrt(K)) v [B, L, H K], log2 of the softmax's sums [B H, L]) of turned queries and keys.

    `longest` (from `rotate_`) lets tiles whose scores cannot grow large do without a running maximum.
    """
    bound = longest is not None and qkv_BLE.dtype != torch.float16  # whose exponents would not reach
    B, L, E = qkv_BLE.shape
    out, lse = qkv_BLE.new_empty(B, L, E // 3), torch.empty(B * heads, L, device=qkv_BLE.device)
    block = block_n = 64
    tiles = triton.cdiv(L, block)
    scale = _LOG2_E / math.sqrt(E // (3 * heads))
    _forward[B * heads * tiles,](
        qkv_BLE, longest, out, lse, L, scale, tiles, **_sizes(qkv_BLE, heads), BLOCK=block, BLOCK_N=block_n,
        TAIL=_tail(L, block_n), BOUND=bound, TOKENS=TOKENS,
        MANY=triton.next_power_of_2(L // TOKENS + 2), num_warps=4,
    )  # fmt: skip
    return out, lse


def attend_backward(qkv_BLE: Tensor, heads: int, out: Tensor, lse: Tensor, d_out: Tensor) -> Tensor:
    """The gradient of `attend`'s turned queries, keys and values, [B, L, E]."""
    B, L, E = qkv_BLE.shape
    sizes, block = _sizes(qkv_BLE, heads), 64
    tiles = triton.cdiv(L, block)
    grid = (B * heads * tiles,)
    factor = 1.0 / math.sqrt(E // (3 * heads))
    delta, d_qkv = torch.empty_like(lse), torch.empty_like(qkv_BLE)
    _delta[grid](out, d_out, delta, L, tiles, H=heads, K=sizes["K"], KP=sizes["KP"], BLOCK=block)
    shared = (qkv_BLE, d_out, lse, delta, d_qkv, L, factor * _LOG2_E, factor, tiles)
    _backward_q[grid](*shared, **sizes, BLOCK=block, BLOCK_N=64, TAIL=_tail(L, 64), num_warps=4, num_stages=5)
    _backward_kv[grid](*shared, **sizes, BLOCK=block, BLOCK_N=32, num_warps=2, num_stages=3)
    return d_qkv


class _SelfAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h: Tensor, qkv: Tensor, heads: int, rotation: Rotation | None) -> Tensor:
        w_qkv = weights.at(qkv, h.dtype)
        qkv_BLE = h @ w_qkv.T
        longest = None if rotation is None else rotate_(qkv_BLE, heads, rotation, 1.0)
        out, lse = attend(qkv_BLE, heads, longest)
        ctx.save_for_backward(h, w_qkv, qkv_BLE, out, lse)
        ctx.heads, ctx.rotation = heads, rotation
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor, Tensor, None, None]:
        h, w_qkv, qkv_BLE, out, lse = ctx.saved_tensors
        d_qkv = attend_backward(qkv_BLE, ctx.heads, out, lse, d_out.contiguous())
        if ctx.rotation is not None:
            rotate_(d_qkv, ctx.heads, ctx.rotation, -1.0)
        d_rows = d_qkv.flatten(0, 1)
        return d_qkv @ w_qkv, (d_rows.T @ h.flatten(0, 1)).float(), None, None


def self_attention(h_BLD: Tensor, qkv: Tensor, heads: int, rotation: Rotation | None) -> Tensor:
    """Attention [B, L, D] of h, with the projection's weight [3 D, D], before the output projection."""
    return _SelfAttention.apply(h_BLD.contiguous(), qkv, heads, rotation)
