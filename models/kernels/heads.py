"""How the kernels of attention read and write heads: [B, L, H K] for one kind, [B, L, 3 H K] for queries, keys, values.

`KP` is K rounded up to a power of two, the width of a tile.
"""

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def load_rows(ptr, at, head, L, stride, K: tl.constexpr, KP: tl.constexpr):
    """Positions `at` of a head, [BLOCK, KP]; zeros outside."""
    k = tl.arange(0, KP)
    real = (at[:, None] < L) if K == KP else ((at[:, None] < L) & (k[None, :] < K))
    return tl.load(ptr + head + at[:, None] * stride + k[None, :], real, 0.0)


@triton.jit
def store_rows(ptr, value, at, head, L, stride, K: tl.constexpr, KP: tl.constexpr):
    """`value` [BLOCK, KP] to positions `at` of a head; nothing outside."""
    k = tl.arange(0, KP)
    real = (at[:, None] < L) & (k[None, :] < K)
    tl.store(ptr + head + at[:, None] * stride + k[None, :], value.to(ptr.dtype.element_ty), real)


@triton.jit
def place_of(tile, L, H: tl.constexpr, K: tl.constexpr, TILES):
    """Of a program: its tile of positions, its head's number, where that head starts in qkv and in the output."""
    head = tile // TILES
    b, h = (head // H).to(tl.int64), head % H
    return tile % TILES, head.to(tl.int64), b * L * (3 * H * K) + h * K, b * L * (H * K) + h * K


def sizes_of(qkv_BLE: Tensor, heads: int) -> dict[str, int]:
    """H, K and KP of queries, keys and values [B, L, 3 H K]."""
    K = qkv_BLE.shape[2] // (3 * heads)
    return {"H": heads, "K": K, "KP": max(16, triton.next_power_of_2(K))}


def tail_of(length: int, block: int) -> int:
    """The size of the tile that holds what whole tiles leave over; 0 where they leave nothing."""
    return max(16, triton.next_power_of_2(length % block)) if length % block else 0
