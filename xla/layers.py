"""The layers that models share, as pure functions: models/layers.py, models/sru.py.

Each takes its parameters first, a tree of arrays with the names of models/. `xla.reasoner.parameters` has cast them.

Shapes: B rows, L positions, D features, H heads, K = D / H head size; in SRU++ I = D / 4 inner features, N layers.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from config.architectures import Arch, BlockArch, EqRArch, FeedforwardArch, HRMArch, HRMSRUArch, TRMArch
from evaluation.settings import Settings
from models.layers import EPS, rope_1d, rope_2d
from xla.attention import attend

Parameters = Any  # a tree of arrays: dicts by name
UNROLL = 4  # a loop over layers: so many compile fast, and run a little faster
SRU_HEADS = 4  # of SRU++'s attention


class Static(NamedTuple):
    """What a compiled program depends on, beside the shapes of arrays."""

    arch: Arch
    seq_len: int  # S, tokens of a puzzle
    platform: str = "cpu"  # or cuda, tpu
    settings: Settings = Settings([1])
    start_std: float | None = None  # random starts for a model that has stored ones

    @property
    def length(self) -> int:
        """L: the puzzle's tokens, and those of the puzzle embedding."""
        return self.arch.puzzle_tokens + self.seq_len

    @property
    def dtype(self) -> Any:
        """The dtype of latents and activations."""
        return jnp.dtype(self.arch.forward_dtype)


def require_support(arch: Arch) -> None:
    """Raises ValueError if XLA lacks the model or its precision."""
    if type(arch) not in (TRMArch, EqRArch, HRMArch, HRMSRUArch, FeedforwardArch):
        raise ValueError(f"engine=xla has no arch.name={arch.name}: write its outer iteration in xla/reasoner.py")
    if arch.forward_dtype == "float64":
        raise ValueError("engine=xla computes in bfloat16, float16 or float32, not in forward_dtype=float64")


def rms_norm(x: Array) -> Array:
    """x * rsqrt(mean(x^2) + EPS) over the last axis, computed in float32, without gain."""
    x32 = x.astype(jnp.float32)
    return (x32 * lax.rsqrt(jnp.square(x32).mean(-1, keepdims=True) + EPS)).astype(x.dtype)


def product(x: Array, weight: Array) -> Array:
    """x W^T: [..., in] -> [..., out], with W [out, in]. Float32 is float32, without shorter products."""

    def multiply(x: Array, weight: Array) -> Array:
        precision = lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
        return jnp.einsum("...i,oi->...o", x, weight, precision=precision)

    def in_float32(x: Array, weight: Array) -> Array:  # most CPUs are slow at 16 bits
        return multiply(x.astype(jnp.float32), weight.astype(jnp.float32)).astype(x.dtype)

    return lax.platform_dependent(x, weight, cpu=in_float32, default=multiply)


def swiglu(p: Parameters, x: Array) -> Array:
    """down(silu(gate) * up), with (gate, up) = gate_up(x)."""
    gate, up = jnp.split(product(x, p["gate_up_proj"]["weight"]), 2, axis=-1)
    return product(jax.nn.silu(gate) * up, p["down_proj"]["weight"])


def rotary(arch: BlockArch, length: int) -> np.ndarray | None:
    """The angles [L, 1, parts, 2, K'/2] of a head's parts, each two halves of K'/2; None without rotary positions."""
    if arch.pos_encodings not in ("rope", "rope2d"):
        return None
    head_dim = arch.hidden_size // arch.num_heads
    board: Any = (arch.board_height, arch.board_width, arch.puzzle_tokens, head_dim)
    angles = rope_2d(*board) if arch.pos_encodings == "rope2d" else (rope_1d(length, head_dim),)
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
    layer = lambda h_BLD, p: (block(p, h_BLD, arch, platform), None)  # noqa: E731
    return lax.scan(layer, h_BLD + inject_BLD, p["layers"], unroll=UNROLL)[0]


def layer_norm(p: Parameters, x: Array) -> Array:
    """LayerNorm over the last axis with gain and bias, computed in float32."""
    x32 = x.astype(jnp.float32)
    centred = x32 - x32.mean(-1, keepdims=True)
    normed = centred * lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + EPS)
    return (normed * p["weight"].astype(jnp.float32) + p["bias"].astype(jnp.float32)).astype(x.dtype)


def sru_scan(u_BLD3: Array, x_BLD: Array, c_BD: Array, weight_c: Array, bias: Array) -> tuple[Array, Array]:
    """The recurrence over positions. Returns outputs [B, L, D] and the last cell state [B, D]."""
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
    z_BLI = product(x_BLD, p["linear1"]["weight"])
    k_BLI, v_BLI = jnp.split(product(z_BLI, p["linear2"]["weight"]), 2, axis=-1)
    q, k, v = (t.reshape(*t.shape[:2], SRU_HEADS, -1) for t in (z_BLI, k_BLI, v_BLI))
    a_BLI = p["alpha"] * attend(q, k, v, platform).reshape(z_BLI.shape) + z_BLI
    return product(layer_norm(p["layer_norm"], a_BLI), p["linear3"]["weight"])


def sru_stack(p: Parameters, x_BLD: Array, c_BND: Array, platform: str) -> tuple[Array, Array]:
    """Layers on top of each other: (x [B, L, D], c [B, N, D]) -> (output, new c). SRU++ attends in the place of W."""

    def layer(x_BLD: Array, of_layer: tuple[Parameters, Array]) -> tuple[Array, Array]:
        p, c_BD = of_layer
        if "layer_norm" in p:
            u = attention_transform(p["transform_module"], layer_norm(p["layer_norm"], x_BLD), platform)
        else:
            u = product(x_BLD, p["transform_module"]["weight"])
        return sru_scan(u.reshape(*x_BLD.shape, 3), x_BLD * p["scale_x"], c_BD, p["weight_c"], p["bias"])

    x_BLD, c_NBD = lax.scan(layer, x_BLD, (p["rnn_lst"], c_BND.swapaxes(0, 1)), unroll=UNROLL)
    return x_BLD, c_NBD.swapaxes(0, 1)
