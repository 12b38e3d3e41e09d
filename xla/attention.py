"""Attention: models/attention.py. Only this file knows its implementations.

Shapes: B rows, L positions, H heads, K head size, N = B * H.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax


def attend(q_BLHK: Array, k_BLHK: Array, v_BLHK: Array, platform: str) -> Array:
    """Bidirectional attention softmax(q k^T / sqrt(K)) v; [B, L, H, K] in and out.

    On CUDA in 16 bits it is cuDNN's kernel. Elsewhere a few heads at a time have their scores in memory.
    """
    B, L, H, K = q_BLHK.shape
    dtype = q_BLHK.dtype
    if platform == "cuda" and dtype != jnp.float32 and K % 8 == 0 and K <= 128:
        return jax.nn.dot_product_attention(q_BLHK, k_BLHK, v_BLHK, implementation="cudnn")
    computed, scores = (jnp.float32, 2**22) if platform == "cpu" else (dtype, 2**28)  # 4 MB stay in a CPU's cache
    precision = lax.Precision.HIGHEST if computed == jnp.float32 else None

    def head(qkv: tuple[Array, ...]) -> Array:
        q, k, v = (t.astype(computed) for t in qkv)
        a = jnp.matmul(q, k.T, precision=precision, preferred_element_type=jnp.float32) * K**-0.5
        e = jnp.exp(a - a.max(-1, keepdims=True))
        return (jnp.matmul(e.astype(computed), v, precision=precision) / e.sum(-1, keepdims=True)).astype(dtype)

    heads_NLK = tuple(t.swapaxes(1, 2).reshape(B * H, L, K) for t in (q_BLHK, k_BLHK, v_BLHK))
    out_NLK = lax.map(head, heads_NLK, batch_size=min(B * H, max(1, scores // (4 * L * L))))
    return out_NLK.reshape(B, H, L, K).swapaxes(1, 2)
