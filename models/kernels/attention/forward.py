"""The forward pass of attention, from projected queries, keys and values to the output.

Shapes: B rows, L positions, H heads of K features, E = 3 H K. `KP` is K rounded up to a power of two. Here K is
weights.stride of a head's features; zeros fill the rest. The softmax takes powers of two, because `rotate_` has
multiplied queries by log2(e) / sqrt(K).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.kernels.attention.heads import load_rows, place_of, sizes_of, store_rows, tail_of
from models.kernels.attention.rotary import TOKENS

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
    """Powers of two.

    Not EXACT, |x| must be below 60. One power in eight then runs on the multiply-add units, since the units for powers
    are the bottleneck. It is a polynomial of degree 3, off by at most 7.5e-5; rounding to bfloat16 is off by 3.9e-3.
    """
    if EXACT:
        return tl.exp2(x)
    return tl.inline_asm_elementwise(_POWERS, _PLACES, [x], tl.float32, is_pure=True, pack=8)


@triton.jit
def _add_tile(
    q, qkv_ptr, start, head, L, maximum, total, out,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK_N: tl.constexpr, EDGE: tl.constexpr,
    SAFE: tl.constexpr,
):  # fmt: skip
    """Adds one tile of keys and values to the running maximum, sum and output. SAFE does without the maximum."""
    positions = start + tl.arange(0, BLOCK_N)
    k = load_rows(qkv_ptr + H * K, positions, head, L if EDGE else start + BLOCK_N, 3 * H * K, K, KP)
    v = load_rows(qkv_ptr + 2 * H * K, positions, head, L if EDGE else start + BLOCK_N, 3 * H * K, K, KP)
    score = tl.dot(q, tl.trans(k), input_precision="ieee")
    if EDGE:
        score = tl.where(positions[None, :] < L, score, float("-inf"))
    if SAFE:
        p = _exp2(score, EDGE or v.dtype == tl.float32)
    else:
        raised = tl.maximum(maximum, tl.max(score, 1))
        p = tl.exp2(score - raised[:, None])
        shrink = tl.exp2(maximum - raised)
        total *= shrink
        out *= shrink[:, None]
        maximum = raised
    total += tl.sum(p, 1)
    return maximum, total, tl.dot(p.to(v.dtype), v, out, input_precision="ieee")


@triton.jit
def _add_all(
    q, qkv_ptr, head, L, maximum, total, out,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK_N: tl.constexpr, TAIL: tl.constexpr,
    SAFE: tl.constexpr,
):  # fmt: skip
    whole = (L // BLOCK_N) * BLOCK_N
    for start in range(0, whole, BLOCK_N):
        maximum, total, out = _add_tile(q, qkv_ptr, start, head, L, maximum, total, out, H, K, KP, BLOCK_N, False, SAFE)
    if TAIL > 0:
        maximum, total, out = _add_tile(q, qkv_ptr, whole, head, L, maximum, total, out, H, K, KP, TAIL, True, SAFE)
    return maximum, total, out


@triton.jit
def _forward(
    qkv_ptr, longest_ptr, out_ptr, lse_ptr, L, TILES,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr, BLOCK_N: tl.constexpr,
    TAIL: tl.constexpr, EACH: tl.constexpr, TOKENS: tl.constexpr, MANY: tl.constexpr,
):  # fmt: skip
    tile, number, head, place = place_of(tl.program_id(0), L, H, K, TILES)
    positions = tile * BLOCK + tl.arange(0, BLOCK)
    q = load_rows(qkv_ptr, positions, head, L, 3 * H * K, K, KP)
    maximum = tl.zeros((BLOCK,), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    out = tl.zeros((BLOCK, KP), tl.float32)
    safe = False
    if EACH > 0:
        # |q k| <= |q| max |k|. With no score beyond 60, a sum of 2^score neither overflows nor vanishes. In float32 it
        # is as exact as a sum of 2^(score - maximum). In bfloat16 a row that one key dominates is off by 2^-9 more.
        b, h = number // H, number % H
        tiles = (b * L) // TOKENS + tl.arange(0, MANY)
        keys = tl.load(longest_ptr + tiles * EACH + h % EACH, tiles <= ((b + 1) * L - 1) // TOKENS, 0.0)
        q32 = q.to(tl.float32)
        safe = tl.max(tl.sum(q32 * q32, 1), 0) * tl.max(keys, 0) < 3600.0
    if safe:
        maximum, total, out = _add_all(q, qkv_ptr, head, L, maximum, total, out, H, K, KP, BLOCK_N, TAIL, True)
    else:
        maximum += float("-inf")
        maximum, total, out = _add_all(q, qkv_ptr, head, L, maximum, total, out, H, K, KP, BLOCK_N, TAIL, False)
    store_rows(out_ptr, out / total[:, None], positions, place, L, H * K, K, KP)
    tl.store(lse_ptr + number * L + positions, maximum + tl.log2(total), positions < L)


def attend(qkv_BLE: Tensor, heads: int, longest: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(2^(q k^T) v divided by the sums of 2^(q k^T), [B, L, H K]; log2 of these sums, [B H, L]).

    `longest` comes from `project`. With it, tiles whose scores cannot grow large need no running maximum.
    """
    if qkv_BLE.dtype == torch.float16:  # its exponents would not reach
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
