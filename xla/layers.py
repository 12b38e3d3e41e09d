"""The layers that models share, as pure functions: models/layers.py and models/puzzle_embedding.py.

Each takes its parameters first, a tree of arrays with the names of models/. `parameters` has cast them.

Shapes: B rows, L positions, D features, H heads, K = D / H head size, I inner features, N layers.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.random import threefry_2x32
from torch import Tensor

from config.architectures import Arch, BlockArch
from models.layers import CUT, CUT_STD, EPS, rope_1d, rope_2d
from xla.attention import attend

Parameters = Any
"""A tree of arrays: dicts by name, and the layers of a stack along the first axis."""


class Static(NamedTuple):
    """What a compiled program depends on, beside the shapes of arrays."""

    arch: Arch
    seq_len: int  # S, tokens of a puzzle
    platform: str = "cpu"  # or cuda, tpu

    @property
    def length(self) -> int:
        """L: the puzzle's tokens, and those of the puzzle embedding."""
        return self.arch.puzzle_tokens + self.seq_len

    @property
    def dtype(self) -> Any:
        """The dtype of latents and activations."""
        return jnp.dtype(self.arch.forward_dtype)


def truncated_normal(keys_B: Array, shape: tuple[int, ...], std: float, dtype: Any) -> Array:
    """Samples [B, *shape] of a normal distribution cut at two standard deviations, rescaled to `std`."""
    samples = jax.vmap(lambda key: jax.random.truncated_normal(key, -CUT, CUT, shape))(keys_B)
    return (samples * (std / CUT_STD)).astype(dtype)


QUANTILE = (1.18455e-5, 4.02111e-4, 4.94425e-3, 1.814491e-2, -3.2769856e-1, 1.2532023)
"""A polynomial in w = log(1 - x^2): x QUANTILE(w) is the normal quantile of (1 + x) / 2 to a part in 9,000."""


def normal(keys_B: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Samples [B, *shape] of N(0, 1), each row from its own key: the quantiles of 16 random bits, within +-4.33.

    A block of Threefry has the bits of four. The barrier keeps compilers from computing a block four times.
    """
    size = math.prod(shape)
    counts = jnp.arange(-(-size // 4) * 2, dtype=jnp.uint32)
    words = jax.vmap(lambda key: threefry_2x32(jax.random.key_data(key), counts))(keys_B)
    first, second = (word[..., None] for word in lax.optimization_barrier(tuple(jnp.split(words, 2, axis=1))))
    i = jnp.arange(4, dtype=jnp.uint32)
    bits = jnp.where(i < 2, first, second) >> 16 * (i % 2) & 0xFFFF
    x = (bits.astype(jnp.int32) + 0.5) * 2.0**-15 - 1
    z = x * jnp.polyval(jnp.array(QUANTILE), jnp.log(1 - x * x))
    return z.astype(dtype).reshape(len(z), -1)[:, :size].reshape(-1, *shape)


def rms_norm(x: Array) -> Array:
    """x * rsqrt(mean(x^2) + EPS) over the last axis, computed in float32, without gain."""
    x32 = x.astype(jnp.float32)
    return (x32 * lax.rsqrt(jnp.square(x32).mean(-1, keepdims=True) + EPS)).astype(x.dtype)


def layer_norm(p: Parameters, x: Array) -> Array:
    """LayerNorm over the last axis with gain and bias, computed in float32."""
    x32 = x.astype(jnp.float32)
    centred = x32 - x32.mean(-1, keepdims=True)
    normed = centred * lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + EPS)
    return (normed * p["weight"].astype(jnp.float32) + p["bias"].astype(jnp.float32)).astype(x.dtype)


def product(x: Array, weight: Array) -> Array:
    """x W^T: [..., in] -> [..., out], with W [out, in]. Float32 is float32, without shorter products."""
    contracted = (((x.ndim - 1,), (1,)), ((), ()))

    def multiply(x: Array, weight: Array) -> Array:
        precision = lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
        return lax.dot_general(x, weight, contracted, precision=precision)

    def in_float32(x: Array, weight: Array) -> Array:  # most CPUs are slow at 16 bits
        return multiply(x.astype(jnp.float32), weight.astype(jnp.float32)).astype(x.dtype)

    if x.dtype == jnp.float32:
        return multiply(x, weight)
    return lax.platform_dependent(x, weight, cpu=in_float32, default=multiply)


def swiglu(p: Parameters, x: Array) -> Array:
    """down(silu(gate) * up), with (gate, up) = gate_up(x)."""
    gate, up = jnp.split(product(x, p["gate_up_proj"]["weight"]), 2, axis=-1)
    return product(jax.nn.silu(gate) * up, p["down_proj"]["weight"])


def rotary(arch: BlockArch, length: int) -> np.ndarray | None:
    """The angles [L, 1, parts, 2, K'/2] of a head's parts, each two halves of K'/2; None without rotary positions."""
    head_dim = arch.hidden_size // arch.num_heads
    angles: tuple[Tensor, ...]
    if arch.pos_encodings == "rope":
        angles = (rope_1d(length, head_dim),)
    elif arch.pos_encodings == "rope2d":
        assert arch.board_height is not None and arch.board_width is not None
        angles = rope_2d(arch.board_height, arch.board_width, arch.puzzle_tokens, head_dim)
    else:
        return None
    return np.stack([part.numpy() for part in angles], axis=1).reshape(length, 1, len(angles), 2, -1)


def rotate(x_BLHK: Array, angles: np.ndarray) -> Array:
    """Turns queries or keys by fixed angles, in float32: each part (a, b) becomes (a, b) cos + (-b, a) sin."""
    halves = x_BLHK.astype(jnp.float32).reshape(*x_BLHK.shape[:3], *angles.shape[2:])
    signs = np.array([[-1], [1]], np.float32)
    turned = halves * np.cos(angles) + halves[..., ::-1, :] * (signs * np.sin(angles))
    return turned.reshape(x_BLHK.shape).astype(x_BLHK.dtype)


def attention(p: Parameters, h_BLD: Array, arch: BlockArch, platform: str) -> Array:
    """Bidirectional multi-head attention over the positions, with rotary positions if `arch` has them."""
    B, L, D = h_BLD.shape
    qkv = product(h_BLD, p["qkv_proj"]["weight"]).reshape(B, L, 3 * arch.num_heads, -1)
    q_BLHK, k_BLHK, v_BLHK = jnp.split(qkv, 3, axis=2)
    if (angles := rotary(arch, L)) is not None:
        q_BLHK, k_BLHK = rotate(q_BLHK, angles), rotate(k_BLHK, angles)
    return product(attend(q_BLHK, k_BLHK, v_BLHK, platform).reshape(B, L, D), p["o_proj"]["weight"])


def block(p: Parameters, h_BLD: Array, arch: BlockArch, platform: str) -> Array:
    """Post-norm block: h = norm(h + attention(h)); h = norm(h + mlp(h)).

    With `mlp_t` a SwiGLU over the positions mixes instead, and the first norm runs over the positions.
    """
    if arch.mlp_t:
        h_BDL = h_BLD.swapaxes(1, 2)
        h_BLD = rms_norm(h_BDL + swiglu(p["mlp_t"], h_BDL)).swapaxes(1, 2)
    else:
        h_BLD = rms_norm(h_BLD + attention(p["self_attn"], h_BLD, arch, platform))
    return rms_norm(h_BLD + swiglu(p["mlp"], h_BLD))


def stack(p: Parameters, h_BLD: Array, inject_BLD: Array, arch: BlockArch, platform: str) -> Array:
    """f(h, inject) = blocks(h + inject): the network that a model applies again and again."""
    layers = p["layers"]

    def layer(h_BLD: Array, p: Parameters) -> tuple[Array, None]:
        return block(p, h_BLD, arch, platform), None

    return lax.scan(layer, h_BLD + inject_BLD, layers, unroll=few(layers))[0]


def few(layers: Parameters) -> bool:
    """Whether a loop over layers is written out: so few compile fast, and run a little faster."""
    return len(jax.tree.leaves(layers)[0]) <= 4


def puzzle_embedding(p: Parameters, ids_B: Array, tokens: int, dim: int) -> Array:
    """The rows of the table as P = `tokens` tokens of size D = `dim`; zeros fill the places that are left."""
    rows_BE = p["weights"][ids_B]
    return jnp.pad(rows_BE, ((0, 0), (0, tokens * dim - rows_BE.shape[1]))).reshape(-1, tokens, dim)
