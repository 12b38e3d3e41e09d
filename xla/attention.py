"""Attention by jax.nn.dot_product_attention: models/attention.py. Only this file knows its implementations.

Shapes: B rows, L positions, H heads, K head size.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

SCORES = 2**28
"""The attention scores of so many bytes are computed at a time, where no fused kernel computes them."""


def attend(q_BLHK: Array, k_BLHK: Array, v_BLHK: Array, platform: str) -> Array:
    """Bidirectional attention softmax(q k^T / sqrt(K)) v; [B, L, H, K] in and out.

    On CUDA in 16 bits it is cuDNN's kernel. Elsewhere a few rows at a time have their scores in memory.
    """
    B, L, H, K = q_BLHK.shape
    if platform == "cuda" and q_BLHK.dtype != jnp.float32 and K % 8 == 0 and K <= 128:
        return jax.nn.dot_product_attention(q_BLHK, k_BLHK, v_BLHK, implementation="cudnn")

    def plain(qkv: tuple[Array, Array, Array]) -> Array:
        q, k, v = (t[None].astype(jnp.float32) if platform == "cpu" else t[None] for t in qkv)
        with jax.default_matmul_precision("highest" if q.dtype == jnp.float32 else "default"):
            return jax.nn.dot_product_attention(q, k, v, implementation="xla")[0].astype(q_BLHK.dtype)

    rows = max(1, SCORES // (4 * H * L * L))
    return lax.map(plain, (q_BLHK, k_BLHK, v_BLHK), batch_size=min(B, rows))
