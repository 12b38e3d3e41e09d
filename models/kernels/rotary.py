"""Rotary positions: queries and keys turned in place, forth and back.

Shapes: B rows, L positions, H heads of K features; E = 3 H K.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

TOKENS = 16
"""Positions of a tile, where the longest are wanted."""

Rotation = tuple[Tensor, Tensor, int]
"""(cosines [L, K], sines [L, K], features of one half-split rotation), tables in float32."""


@triton.jit
def _rotate(
    qkv_ptr, cos_ptr, sin_ptr, longest_ptr, rows, L, turn,
    H: tl.constexpr, K: tl.constexpr, PART: tl.constexpr, BOUND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Turns the pairs (i, i + PART / 2) of every part of queries and keys, in place: forth (turn 1) or back (-1).

    A row is one head of the queries or keys of one position. BOUND: the squared length of the longest query and key
    of every head in this tile goes to `longest` [tiles, 2 H].
    """
    PAIRS: tl.constexpr = triton.next_power_of_2(K // 2)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pair = tl.arange(0, PAIRS)
    k = (pair // (PART // 2)) * PART + pair % (PART // 2)
    token = row // (2 * H)
    real = (row[:, None] < rows) & (pair[None, :] < K // 2)
    at = qkv_ptr + (token * (3 * H) + row % (2 * H)).to(tl.int64)[:, None] * K + k[None, :]
    angle = (token % L)[:, None] * K + k[None, :]
    cos, sin = tl.load(cos_ptr + angle, real, 0.0), turn * tl.load(sin_ptr + angle, real, 0.0)
    first = tl.load(at, real, 0.0).to(tl.float32)
    second = tl.load(at + PART // 2, real, 0.0).to(tl.float32)
    kind = qkv_ptr.dtype.element_ty
    tl.store(at, (first * cos - second * sin).to(kind), real)
    tl.store(at + PART // 2, (second * cos + first * sin).to(kind), real)
    if BOUND:
        squares = tl.reshape(tl.sum(first * first + second * second, 1), (BLOCK // (2 * H), 2 * H))
        tl.store(longest_ptr + tl.program_id(0) * (2 * H) + tl.arange(0, 2 * H), tl.max(squares, 0))


@triton.jit
def _rotate_odd(
    qkv_ptr, cos_ptr, sin_ptr, tokens, L, turn,
    H: tl.constexpr, K: tl.constexpr, PART: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """_rotate for pairs that lie at odd distances: whole positions at a time, each feature with its partner."""
    WIDTH: tl.constexpr = triton.next_power_of_2(2 * H * K)
    token = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c = tl.arange(0, WIDTH)
    first = c % K % PART < PART // 2
    partner = tl.where(first, c + PART // 2, c - PART // 2)
    real = (token[:, None] < tokens) & (c[None, :] < 2 * H * K)
    row = qkv_ptr + token.to(tl.int64)[:, None] * (3 * H * K)
    angle = (token % L)[:, None] * K + (c % K)[None, :]
    x = tl.load(row + c[None, :], real, 0.0).to(tl.float32)
    other = tl.load(row + partner[None, :], real, 0.0).to(tl.float32)
    cos, sin = tl.load(cos_ptr + angle, real, 0.0), turn * tl.load(sin_ptr + angle, real, 0.0)
    tl.debug_barrier()  # everything is read before anything is written
    turned = x * cos + tl.where(first[None, :], -other, other) * sin
    tl.store(row + c[None, :], turned.to(qkv_ptr.dtype.element_ty), real)


def rotate_(qkv_BLE: Tensor, heads: int, rotation: Rotation, turn: float) -> Tensor | None:
    """Turns queries and keys in place: forth (turn 1) or back (-1). Returns the longest of each tile, for `attend`."""
    cos_LK, sin_LK, part = rotation
    B, L, E = qkv_BLE.shape
    K, rows = E // (3 * heads), B * L * 2 * heads
    if part % 16:
        _rotate_odd[triton.cdiv(B * L, TOKENS),](
            qkv_BLE, cos_LK, sin_LK, B * L, L, turn, H=heads, K=K, PART=part, BLOCK=TOKENS, num_warps=4
        )
        return None
    block = 2 * heads * TOKENS
    known = turn > 0 and block & (block - 1) == 0
    tiles = triton.cdiv(rows, block if known else 256)
    longest = torch.empty(tiles, 2 * heads, device=qkv_BLE.device) if known else None
    _rotate[(tiles,)](
        qkv_BLE, cos_LK, sin_LK, longest, rows, L, turn,
        H=heads, K=K, PART=part, BOUND=known, BLOCK=block if known else 256, num_warps=8,
    )  # fmt: skip
    return longest
