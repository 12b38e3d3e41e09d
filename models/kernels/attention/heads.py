"""How the kernels of attention read and write heads.

Shapes: B rows, L positions, H heads of K features. An output is [B, L, H K]; queries, keys and values together are
[B, L, 3 H K]. `KP` is K rounded up to a power of two, the width of a tile.
"""

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def load_rows(ptr, positions, head, L, stride, K: tl.constexpr, KP: tl.constexpr):
    """Some positions of a head, [BLOCK, KP]. Positions past L and features past K are zeros."""
    k = tl.arange(0, KP)
    real = (positions[:, None] < L) if K == KP else ((positions[:, None] < L) & (k[None, :] < K))
    return tl.load(ptr + head + positions[:, None] * stride + k[None, :], real, 0.0)


@triton.jit
def store_rows(ptr, value, positions, head, L, stride, K: tl.constexpr, KP: tl.constexpr):
    """Stores `value` [BLOCK, KP] at some positions of a head, and nothing past L or K."""
    k = tl.arange(0, KP)
    real = (positions[:, None] < L) & (k[None, :] < K)
    tl.store(ptr + head + positions[:, None] * stride + k[None, :], value.to(ptr.dtype.element_ty), real)


@triton.jit
def place_of(tile, L, H: tl.constexpr, K: tl.constexpr, TILES):
    """(A program's tile of positions, the number of its head, where the head starts in qkv, and in the output)."""
    head = tile // TILES
    b, h = (head // H).to(tl.int64), head % H
    return tile % TILES, head.to(tl.int64), b * L * (3 * H * K) + h * K, b * L * (H * K) + h * K


def sizes_of(qkv_BLE: Tensor, heads: int) -> dict[str, int]:
    """H, K and KP of queries, keys and values [B, L, 3 H K]."""
    K = qkv_BLE.shape[2] // (3 * heads)
    return {"H": heads, "K": K, "KP": max(16, triton.next_power_of_2(K))}


def tail_of(length: int, block: int) -> int:
    """The size of the last tile, which holds what whole tiles leave over; 0 if they leave nothing."""
    return max(16, triton.next_power_of_2(length % block)) if length % block else 0
