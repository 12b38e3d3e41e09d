"""The backward pass of attention: two kernels compute the scores again and give the gradients.

Shapes are those of forward.py. Sums have a fixed order, without atomics, so two runs agree to the bit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.kernels.attention.heads import load_rows, place_of, sizes_of, store_rows, tail_of

_LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _add_to_queries(
    q, d_out, lse, delta, d_q, qkv_ptr, start, head, L,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK_N: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    """Adds what one tile of keys and values gives to the gradient of the queries."""
    positions = start + tl.arange(0, BLOCK_N)
    k = load_rows(qkv_ptr + H * K, positions, head, L if EDGE else start + BLOCK_N, 3 * H * K, K, KP)
    v = load_rows(qkv_ptr + 2 * H * K, positions, head, L if EDGE else start + BLOCK_N, 3 * H * K, K, KP)
    score = tl.dot(q, tl.trans(k), input_precision="ieee")
    d_p = tl.dot(d_out, tl.trans(v), input_precision="ieee")
    p = tl.exp2(score - lse[:, None])
    if EDGE:
        p = tl.where(positions[None, :] < L, p, 0.0)
    d_score = (p * (d_p - delta[:, None])).to(q.dtype)
    return tl.dot(d_score, k, d_q, input_precision="ieee")


@triton.jit
def _widen(wide_ptr, rows, x, positions, start, K: tl.constexpr, KW: tl.constexpr):
    """Stores rows [BLOCK, KW] with minus x [BLOCK] as features K and K + 1.

    Two parts hold each number of x. Their sum is off by 2^-17 in bfloat16.
    """
    k = tl.arange(0, KW)[None, :]
    high = (-x).to(rows.dtype)
    low = (-x - high.to(tl.float32)).to(rows.dtype)
    rows = tl.where(k == K, high[:, None], tl.where(k == K + 1, low[:, None], rows))
    tl.store(wide_ptr + (start + positions[:, None]) * KW + k, rows)


@triton.jit
def _backward_q(
    qkv_ptr, out_ptr, d_out_ptr, lse_ptr, delta_ptr, q_wide_ptr, d_wide_ptr, d_qkv_ptr, L, TILES,
    H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
    BLOCK_N: tl.constexpr, TAIL: tl.constexpr,
):  # fmt: skip
    """The gradient of the queries, and what `_backward_kv` needs.

    It needs delta [B H, L], the sum over features of the output times its gradient. WIDE stores two tensors
    [B H, TILES BLOCK, KW] instead: queries with minus lse, and gradients of the output with minus delta. Both are zeros
    past L.
    """
    tile, number, head, place = place_of(tl.program_id(0), L, H, K, TILES)
    positions = tile * BLOCK + tl.arange(0, BLOCK)
    q = load_rows(qkv_ptr, positions, head, L, 3 * H * K, K, KP)
    d_out = load_rows(d_out_ptr, positions, place, L, H * K, K, KP)
    out = load_rows(out_ptr, positions, place, L, H * K, K, KP)
    lse = tl.load(lse_ptr + number * L + positions, positions < L, 0.0)
    delta = tl.sum(out.to(tl.float32) * d_out.to(tl.float32), 1)
    if WIDE:
        wide = number * TILES * BLOCK
        _widen(q_wide_ptr, load_rows(qkv_ptr, positions, head, L, 3 * H * K, K, KW), lse, positions, wide, K, KW)
        _widen(d_wide_ptr, load_rows(d_out_ptr, positions, place, L, H * K, K, KW), delta, positions, wide, K, KW)
    else:
        tl.store(delta_ptr + number * L + positions, delta, positions < L)
    d_q = tl.zeros((BLOCK, KP), tl.float32)
    whole = (L // BLOCK_N) * BLOCK_N
    if TAIL > 0:  # if it came after the loop, ptxas would wait for every single product
        d_q = _add_to_queries(q, d_out, lse, delta, d_q, qkv_ptr, whole, head, L, H, K, KP, TAIL, True)
    for start in range(0, whole, BLOCK_N):
        d_q = _add_to_queries(q, d_out, lse, delta, d_q, qkv_ptr, start, head, L, H, K, KP, BLOCK_N, False)
    store_rows(d_qkv_ptr, d_q * _LN_2, positions, head, L, 3 * H * K, K, KP)


@triton.jit
def _rows_and_ones(ptr, positions, head, L, stride, K: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr):
    """`load_rows`. WIDE sets features K and K + 1 to one, in the load itself, so that products read shared memory."""
    k, real = tl.arange(0, KW)[None, :], positions[:, None] < L
    ones = (real & WIDE & ((k == K) | (k == K + 1))).to(ptr.dtype.element_ty)
    return tl.load(ptr + head + positions[:, None] * stride + k, real & (k < K), ones)


@triton.jit
def _add_to_keys_and_values(
    k, v, d_k, d_v, q_ptr, d_out_ptr, lse_ptr, delta_ptr, q_head, d_head, start, L, q_stride, d_stride,
    K: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr, BLOCK_N: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    """Adds what one tile of queries gives to the gradients of keys and values. Queries past L are zeros."""
    n = start + tl.arange(0, BLOCK_N)
    end = L if EDGE else start + BLOCK_N
    q = load_rows(q_ptr, n, q_head, end, q_stride, K, KW)
    d_out = load_rows(d_out_ptr, n, d_head, end, d_stride, K, KW)
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
    """The gradients of keys and values.

    WIDE takes q and d_out [B H, LP, KW] as `_backward_q` stores them. Keys and values have ones where these have minus
    lse and minus delta, so that the products subtract both. Otherwise q is qkv.
    """
    tile, number, head, place = place_of(tl.program_id(0), L, H, K, TILES)
    positions = tile * BLOCK + tl.arange(0, BLOCK)
    k = _rows_and_ones(qkv_ptr + H * K, positions, head, L, 3 * H * K, K, KW, WIDE)
    v = _rows_and_ones(qkv_ptr + 2 * H * K, positions, head, L, 3 * H * K, K, KW, WIDE)
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
        d_k, d_v = _add_to_keys_and_values(
            k, v, d_k, d_v, q_ptr, d_out_ptr, lse_ptr, delta_ptr, q_head, d_head, whole, L, q_stride, d_stride,
            KQ, KW, WIDE, TAIL, not WIDE,
        )  # fmt: skip
    for start in range(0, whole, BLOCK_N):
        d_k, d_v = _add_to_keys_and_values(
            k, v, d_k, d_v, q_ptr, d_out_ptr, lse_ptr, delta_ptr, q_head, d_head, start, L, q_stride, d_stride,
            KQ, KW, WIDE, BLOCK_N, False,
        )  # fmt: skip
    store_rows(d_qkv_ptr + H * K, d_k * _LN_2, positions, head, L, 3 * H * K, K, KW)
    store_rows(d_qkv_ptr + 2 * H * K, d_v, positions, head, L, 3 * H * K, K, KW)


def attend_backward(qkv_BLE: Tensor, heads: int, out: Tensor, lse: Tensor, d_out: Tensor) -> Tensor:
    """The gradient of `attend`'s queries, keys and values, [B, L, E]."""
    B, L, E = qkv_BLE.shape
    sizes, block = sizes_of(qkv_BLE, heads), 64
    K, KW = sizes["K"], max(16, triton.next_power_of_2(sizes["K"] + 2))
    wide = KW <= 32 and qkv_BLE.dtype != torch.float16  # wider rows cost more than they save; delta may pass 65504
    sizes |= {"KW": KW if wide else sizes["KP"], "WIDE": wide}
    tiles = triton.cdiv(L, block)
    grid, LP = (B * heads * tiles,), tiles * block
    d_qkv, delta = torch.empty_like(qkv_BLE), None if wide else torch.empty_like(lse)
    q_rows, d_rows = qkv_BLE.new_empty(2, B * heads, LP, KW) if wide else (None, None)
    _backward_q[grid](
        qkv_BLE, out, d_out, lse, delta, q_rows, d_rows, d_qkv, L, tiles, **sizes, BLOCK=block, BLOCK_N=64,
        TAIL=tail_of(L, 64), num_warps=4, num_stages=4,
    )  # fmt: skip
    if not wide:
        q_rows, d_rows = qkv_BLE, d_out
    block_n = 64 if wide else 32
    _backward_kv[grid](
        qkv_BLE, q_rows, d_rows, lse, delta, d_qkv, L, LP, tiles, H=heads, K=K, KW=sizes["KW"], WIDE=wide, BLOCK=block,
        BLOCK_N=block_n, TAIL=tail_of(L, block_n), num_warps=4, num_stages=3,
    )  # fmt: skip
    return d_qkv
