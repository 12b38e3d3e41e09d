"""Queries, keys and values for `attend`: the projection with its rotary positions, and the way back for gradients.

Shapes: B rows, L positions, H heads of K features, which lie KS = weights.stride(K) apart; E = 3 H KS.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.kernels import weights

TOKENS = 16
"""Positions of a tile that has one longest key."""

NARROW = 64
"""The widest row that one pass projects and turns."""
_PROGRAMS = 528  # four for each multiprocessor of an H100

Rotation = tuple[Tensor, Tensor, int]
"""(cosines [L, K], sines [L, K], features of one half-split rotation); the tables are float32."""


@triton.jit
def _rotate(
    qkv_ptr, cos_ptr, sin_ptr, longest_ptr, rows, L, turn, scale,
    H: tl.constexpr, K: tl.constexpr, PART: tl.constexpr, BOUND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Turns the pairs (i, i + PART / 2) of every part of queries and keys, in place; `turn` is 1, or -1 for back.

    A row is one head of the queries or keys of one position. Queries are also multiplied by `scale`. BOUND stores the
    squared length of each head's longest key in this tile in `longest` [tiles, H].
    """
    PAIRS: tl.constexpr = triton.next_power_of_2(K // 2)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pair = tl.arange(0, PAIRS)
    k = (pair // (PART // 2)) * PART + pair % (PART // 2)
    token = row // (2 * H)
    real = (row[:, None] < rows) & (pair[None, :] < K // 2)
    first_ptr = qkv_ptr + (token * (3 * H) + row % (2 * H)).to(tl.int64)[:, None] * K + k[None, :]
    angle = (token % L)[:, None] * K + k[None, :]
    factor = tl.where(row % (2 * H) < H, scale, 1.0)[:, None]
    cos, sin = factor * tl.load(cos_ptr + angle, real, 0.0), factor * turn * tl.load(sin_ptr + angle, real, 0.0)
    first = tl.load(first_ptr, real, 0.0).to(tl.float32)
    second = tl.load(first_ptr + PART // 2, real, 0.0).to(tl.float32)
    kind = qkv_ptr.dtype.element_ty
    tl.store(first_ptr, (first * cos - second * sin).to(kind), real)
    tl.store(first_ptr + PART // 2, (second * cos + first * sin).to(kind), real)
    if BOUND:
        squares = tl.reshape(tl.sum(first * first + second * second, 1), (BLOCK // (2 * H), 2 * H))
        h = tl.arange(0, 2 * H) - H
        tl.store(longest_ptr + tl.program_id(0) * H + h, tl.max(squares, 0), h >= 0)


@triton.jit
def _rotate_odd(
    qkv_ptr, cos_ptr, sin_ptr, tokens, L, turn, scale,
    H: tl.constexpr, K: tl.constexpr, KS: tl.constexpr, PART: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`_rotate` for pairs at odd distances: takes whole positions, and each feature with its partner."""
    WIDTH: tl.constexpr = triton.next_power_of_2(2 * H * KS)
    token = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c = tl.arange(0, WIDTH)
    k = c % KS
    first = k % PART < PART // 2
    partner = tl.where(first, c + PART // 2, c - PART // 2)
    real = (token[:, None] < tokens) & ((c < 2 * H * KS) & (k < K))[None, :]
    row = qkv_ptr + token.to(tl.int64)[:, None] * (3 * H * KS)
    angle = (token % L)[:, None] * K + k[None, :]
    x = tl.load(row + c[None, :], real, 0.0).to(tl.float32)
    other = tl.load(row + partner[None, :], real, 0.0).to(tl.float32)
    cos, sin = tl.load(cos_ptr + angle, real, 0.0), turn * tl.load(sin_ptr + angle, real, 0.0)
    tl.debug_barrier()  # reads everything before it writes anything
    turned = x * cos + tl.where(first[None, :], -other, other) * sin
    turned *= tl.where(c < H * KS, scale, 1.0)[None, :]
    tl.store(row + c[None, :], turned.to(qkv_ptr.dtype.element_ty), real)


@triton.jit
def _project(
    h_ptr, weight_ptr, cos_ptr, sin_ptr, qkv_ptr, longest_ptr, tokens, L, scale,
    D: tl.constexpr, DP: tl.constexpr, H: tl.constexpr, K: tl.constexpr, KS: tl.constexpr, WIDTH: tl.constexpr,
    PART: tl.constexpr, BLOCK: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """Projects rows of D features to queries, keys and values with a weight [3 H KS, DP], and turns them in float32.

    Products of their own, with the weight's rows exchanged, give each feature's partner. `longest` [tiles of TOKENS]
    gets the squared length of the longest key, over all heads of a position together. A program keeps the weight and
    takes every n-th tile.
    """
    E: tl.constexpr = H * KS
    parts: tl.constexpr = BLOCK // TOKENS
    d = tl.arange(0, DP)
    c = tl.arange(0, WIDTH)
    k = c % KS
    first = k % PART < PART // 2
    partner = tl.where(first, c + PART // 2, c - PART // 2)
    known = (c < E)[None, :]
    own = weight_ptr + c[None, :] * DP + d[:, None]
    other = weight_ptr + partner[None, :] * DP + d[:, None]
    wq, wk, wv = tl.load(own, known, 0.0), tl.load(own + E * DP, known, 0.0), tl.load(own + 2 * E * DP, known, 0.0)
    other_q, other_k = tl.load(other, known, 0.0), tl.load(other + E * DP, known, 0.0)
    for tile in range(tl.program_id(0), tl.cdiv(tokens, BLOCK), tl.num_programs(0)):
        token = tile * BLOCK + tl.arange(0, BLOCK)
        inside = token[:, None] < tokens
        h = tl.load(h_ptr + token.to(tl.int64)[:, None] * D + d[None, :], inside & (d[None, :] < D), 0.0)
        angle = (token % L)[:, None] * K + k[None, :]
        real = inside & known
        turns = real & (k < K)[None, :]
        cos = tl.load(cos_ptr + angle, turns, 0.0)
        sin = tl.load(sin_ptr + angle, turns, 0.0) * tl.where(first, -1.0, 1.0)[None, :]
        row = qkv_ptr + token.to(tl.int64)[:, None] * (3 * E) + c[None, :]
        queries = tl.dot(h, wq, input_precision="ieee") * cos + tl.dot(h, other_q, input_precision="ieee") * sin
        tl.store(row, (queries * scale).to(h.dtype), real)
        keys = tl.dot(h, wk, input_precision="ieee") * cos + tl.dot(h, other_k, input_precision="ieee") * sin
        tl.store(row + E, keys.to(h.dtype), real)
        longest = tl.max(tl.reshape(tl.sum(keys * keys, 1), (parts, TOKENS)), 1)
        tl.store(longest_ptr + tile * parts + tl.arange(0, parts), longest)
        tl.store(row + 2 * E, tl.dot(h, wv, input_precision="ieee").to(h.dtype), real)


def project(h_BLD: Tensor, qkv: Tensor, heads: int, rotation: Rotation | None) -> tuple[Tensor, Tensor | None]:
    """(Queries, keys and values [B, L, E], ready for `attend`; the longest keys, as `rotate_` returns them).

    `qkv` [3 D, D] is the weight of the projection.
    """
    B, L, D = h_BLD.shape
    K = D // heads
    KS = weights.stride(K)
    DP, WIDTH = (max(16, triton.next_power_of_2(n)) for n in (D, heads * KS))
    if rotation is None or max(DP, WIDTH) > NARROW:
        qkv_BLE = h_BLD @ weights.kernel_copy(qkv, h_BLD.dtype, heads=(0, K)).T
        return qkv_BLE, rotate_(qkv_BLE, heads, K, rotation, 1.0)
    cos_LK, sin_LK, part = rotation
    block = 64
    tiles = triton.cdiv(B * L, block)
    qkv_BLE = h_BLD.new_empty(B, L, 3 * heads * KS)
    longest = torch.empty(tiles * block // TOKENS, 1, device=h_BLD.device)
    _project[min(tiles, _PROGRAMS),](
        h_BLD, weights.kernel_copy(qkv, h_BLD.dtype, columns=DP, heads=(0, K)),
        cos_LK, sin_LK, qkv_BLE, longest, B * L, L,
        _scale(K), D=D, DP=DP, H=heads, K=K, KS=KS, WIDTH=WIDTH, PART=part, BLOCK=block, TOKENS=TOKENS,
        num_warps=4, num_stages=2,
    )  # fmt: skip
    return qkv_BLE, longest


def _scale(K: int) -> float:
    return math.log2(math.e) / math.sqrt(K)


def rotate_(qkv_BLE: Tensor, heads: int, K: int, rotation: Rotation | None, turn: float) -> Tensor | None:
    """Turns queries and keys in place, and multiplies queries by log2(e) / sqrt(K). Turn -1 takes gradients back.

    Returns:
        The squared length of the longest key, for `attend`: [tiles of TOKENS, H], or [tiles of TOKENS, 1] for all heads
        together. None if no kernel measured it.
    """
    B, L, E = qkv_BLE.shape
    rows, scale = B * L * 2 * heads, _scale(K)
    if rotation is None:
        qkv_BLE[..., : E // 3] *= scale
        return None
    cos_LK, sin_LK, part = rotation
    if part % 16:
        _rotate_odd[triton.cdiv(B * L, TOKENS),](
            qkv_BLE, cos_LK, sin_LK, B * L, L, turn, scale,
            H=heads, K=K, KS=weights.stride(K), PART=part, BLOCK=TOKENS, num_warps=4,
        )  # fmt: skip
        return None
    block = 2 * heads * TOKENS
    known = turn > 0 and block & (block - 1) == 0
    tiles = triton.cdiv(rows, block if known else 256)
    longest = torch.empty(tiles, heads, device=qkv_BLE.device) if known else None
    _rotate[(tiles,)](
        qkv_BLE, cos_LK, sin_LK, longest, rows, L, turn, scale,
        H=heads, K=K, PART=part, BOUND=known, BLOCK=block if known else 256, num_warps=8,
    )  # fmt: skip
    return longest
