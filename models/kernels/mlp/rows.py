"""How the kernels of the narrow MLP read rows and weights.

Shapes: R rows of D features, N inner features. With M = 0 the rows of x are its last axis. Otherwise x is [B, D, M]:
its features are the positions, and its rows are the B * M columns (MixerBlock).

A kernel holds a row in two parts of D1 and D2 features. Two powers of two waste less than one (81 = 64 + 17 of 32); D2
may be 0. Weights are in the activations' dtype and padded to D1 + D2 (weights.kernel_copy).
"""

import triton
import triton.language as tl


@triton.jit
def rows_of(tile, R, D: tl.constexpr, M: tl.constexpr, BLOCK: tl.constexpr):
    """(A tile's rows, where they start in x, which of them are real)."""
    if M == 0:
        r = tl.cast(tile, tl.int64) * BLOCK + tl.arange(0, BLOCK)
        return r, r * D, r < R
    else:
        tiles: tl.constexpr = (M + BLOCK - 1) // BLOCK
        m = (tile % tiles) * BLOCK + tl.arange(0, BLOCK)
        b = tl.cast(tile // tiles, tl.int64)
        return b * M + m, b * (D * M) + m, m < M


@triton.jit
def offsets_of(start, real, FROM: tl.constexpr, WIDTH: tl.constexpr, D: tl.constexpr, M: tl.constexpr):
    """(Offsets in x of `WIDTH` features of the rows, which of them are real)."""
    d = FROM + tl.arange(0, WIDTH)
    step: tl.constexpr = 1 if M == 0 else M
    return start[:, None] + d[None, :] * step, real[:, None] & (d[None, :] < D)


@triton.jit
def columns_of(ptr, STEP: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr):
    """Weights whose features lie STEP apart, as columns in two parts. Without D2 the second part is the first."""
    w1 = tl.load(ptr + tl.arange(0, D1)[:, None] * STEP)
    w2 = w1
    if D2 > 0:
        w2 = tl.load(ptr + (D1 + tl.arange(0, D2))[:, None] * STEP)
    return w1, w2


@triton.jit
def product(x1, x2, w1, w2, D2: tl.constexpr):
    """x @ w in float32, with both in two parts."""
    out = tl.dot(x1, w1, input_precision="ieee")
    if D2 > 0:
        out = tl.dot(x2, w2, out, input_precision="ieee")
    return out


def parts_of(D: int) -> tuple[int, int]:
    """(D1, D2): the powers of two that hold D features with the least waste. Both are at least 16; D2 may be 0."""
    whole = max(16, triton.next_power_of_2(D))
    half = whole // 2
    rest = max(16, triton.next_power_of_2(D - half))
    return (half, rest) if half >= 16 and rest < half else (whole, 0)


def grid_of(sizes: dict[str, int], R: int, block: int) -> tuple[int]:
    """One program for each tile of `block` rows. No tile crosses from one row of B to the next."""
    M = sizes["M"]
    return (triton.cdiv(M, block) * (R // M) if M else triton.cdiv(R, block),)
