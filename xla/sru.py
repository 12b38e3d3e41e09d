"""Simple Recurrent Units over positions, and SRU++: models/sru.py as pure functions, without dropout.

Shapes: B rows, L positions (the time of the recurrence), D features, I = D / 4 inner features, N layers.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from xla.attention import attend
from xla.layers import Parameters, few, layer_norm, product

HEADS = 4
"""Heads of SRU++'s attention."""


def sru_scan(u_BLD3: Array, x_BLD: Array, c_BD: Array, weight_c: Array, bias: Array) -> tuple[Array, Array]:
    """The recurrence over positions. Returns outputs [B, L, D] and the last cell state [B, D].

    forget = sigmoid(u1 + v_f c + b_f);  reset = sigmoid(u2 + v_r c + b_r)
    c = u0 + (c - u0) forget;  out = x + (c - x) reset
    """
    (v_f, v_r), (b_f, b_r) = jnp.split(weight_c, 2), jnp.split(bias, 2)

    def step(c_BD: Array, at_t: tuple[Array, Array]) -> tuple[Array, Array]:
        u_BD3, x_BD = at_t
        forget = jax.nn.sigmoid(u_BD3[..., 1] + b_f + v_f * c_BD)
        reset = jax.nn.sigmoid(u_BD3[..., 2] + b_r + v_r * c_BD)
        c_BD = u_BD3[..., 0] + (c_BD - u_BD3[..., 0]) * forget
        return c_BD, x_BD + (c_BD - x_BD) * reset

    c_BD, out_LBD = lax.scan(step, c_BD, (u_BLD3.swapaxes(0, 1), x_BLD.swapaxes(0, 1)))
    return out_LBD.swapaxes(0, 1), c_BD


def attention_transform(p: Parameters, x_BLD: Array, platform: str) -> Array:
    """u = W3 LayerNorm(alpha attention(q, k, v) + z) of SRU++, with z = q = W1 x and (k, v) = W2 z in I features."""
    B, L, _ = x_BLD.shape
    z_BLI = product(x_BLD, p["linear1"]["weight"])
    k_BLI, v_BLI = jnp.split(product(z_BLI, p["linear2"]["weight"]), 2, axis=-1)
    q, k, v = (t.reshape(B, L, HEADS, -1) for t in (z_BLI, k_BLI, v_BLI))
    a_BLI = p["alpha"] * attend(q, k, v, platform).reshape(z_BLI.shape) + z_BLI
    return product(layer_norm(p["layer_norm"], a_BLI), p["linear3"]["weight"])


def sru_layer(p: Parameters, x_BLD: Array, c_BD: Array, platform: str) -> tuple[Array, Array]:
    """One layer. SRU++ has a LayerNorm before the gates, and attention in the place of W."""
    if "layer_norm" in p:
        u = attention_transform(p["transform_module"], layer_norm(p["layer_norm"], x_BLD), platform)
    else:
        u = product(x_BLD, p["transform_module"]["weight"])
    return sru_scan(u.reshape(*x_BLD.shape, 3), x_BLD * p["scale_x"], c_BD, p["weight_c"], p["bias"])


def sru_stack(p: Parameters, x_BLD: Array, c_BND: Array, platform: str) -> tuple[Array, Array]:
    """Layers on top of each other: (x [B, L, D], c [B, N, D]) -> (output, new c)."""

    def layer(x_BLD: Array, of_layer: tuple[Parameters, Array]) -> tuple[Array, Array]:
        return sru_layer(of_layer[0], x_BLD, of_layer[1], platform)

    layers = p["rnn_lst"]
    x_BLD, c_NBD = lax.scan(layer, x_BLD, (layers, c_BND.swapaxes(0, 1)), unroll=few(layers))
    return x_BLD, c_NBD.swapaxes(0, 1)
