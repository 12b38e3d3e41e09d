"""The reasoner as pure functions: models/reasoner.py, the cores in models/ and how their latents start.

Shapes: B rows, S tokens of a puzzle, L positions, D features, V vocabulary. Cells of HRM-SRU are [B, layers, D].
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from torch import Tensor

from config.architectures import EqRArch, FeedforwardArch, HRMSRUArch
from models.layers import sinusoids
from xla.layers import Parameters, Static, product, sru_stack, stack
from xla.randomness import fold, truncated_normal

Latents = tuple[Array, ...]
Noise = Callable[[Array | int], Array]  # eps [B, L, D] of an outer iteration's n-th application of the network, from 0


class Readout(NamedTuple):
    """The answer after an outer iteration, and the halting logit."""

    logits: Array  # [B, S, V]
    q_halt: Array  # [B] float32: above 0 means "my answer is right"


def parameters(weights: Mapping[str, Tensor], static: Static) -> Parameters:
    """A model's state dict as a tree of arrays, on the host; the layers of a stack lie along the first axis.

    All are cast to the dtype of the activations, in which they are used, but for the q head's.
    """

    def stacked(tree: Parameters) -> Parameters:
        if not isinstance(tree, dict):
            return tree
        branches = {name: stacked(branch) for name, branch in tree.items()}
        return jax.tree.map(lambda *layers: np.stack(layers), *branches.values()) if "0" in branches else branches

    dtypes = {name: jnp.float32 if name.startswith("q_head") else static.dtype for name in weights}
    arrays = {name: np.asarray(w.detach().float().cpu().numpy(), dtypes[name]) for name, w in weights.items()}
    return stacked(nested(arrays))


def nested(arrays: Mapping[str, Any]) -> Parameters:
    """Arrays by dotted name, as a tree."""
    tree: Parameters = {}
    for name, array in arrays.items():
        *groups, leaf = name.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[leaf] = array
    return tree


def start(p: Parameters, static: Static, keys_B: Array) -> Latents:
    """The latents of fresh rows: models/core.py. Stored ones may give way to random ones of `static.start_std`."""
    arch, B, shape = static.arch, len(keys_B), (static.length, static.arch.hidden_size)

    def latent(i: int, shape: tuple[int, ...], std: float | None, stored: Any = None) -> Array:
        if std is None:
            return jnp.broadcast_to(stored, (B, *shape))
        return truncated_normal(fold(keys_B, i), shape, std, static.dtype)

    zeros = jnp.zeros((B, *shape), static.dtype)
    if isinstance(arch, FeedforwardArch):
        return (zeros,)
    if isinstance(arch, EqRArch):
        return latent(0, shape, arch.H_init_std), latent(1, shape, arch.L_init_std)
    stored = (p["start"]["H_init"], p["start"]["L_init"])
    if isinstance(arch, HRMSRUArch):
        cells = (z.swapaxes(0, 1) for z in stored)
        return zeros, *(latent(i, z.shape[1:], static.start_std, z) for i, z in enumerate(cells))
    return tuple(latent(i, shape, static.start_std, z) for i, z in enumerate(stored))


def outer_iteration(p: Parameters, static: Static, latents: Latents, x_BLD: Array, noise: Noise) -> Latents:
    """The latents after one outer iteration on the embedded puzzle x."""
    if isinstance(static.arch, HRMSRUArch):
        _, c_H, c_L = latents
        y_BLD, c_L = sru_stack(p["L_level"], x_BLD, c_L, static.platform)
        y_BLD, c_H = sru_stack(p["H_level"], y_BLD, c_H, static.platform)
        return y_BLD, c_H, c_L
    if isinstance(static.arch, FeedforwardArch):
        f = lambda _, z: stack(p["L_level"], z, x_BLD, static.arch, static.platform)  # noqa: E731
        return (lax.fori_loop(0, static.arch.repeats, f, latents[0]),)
    return recursion(p, static.arch, static.platform, latents, x_BLD, noise)


def recursion(p: Parameters, arch: Any, platform: str, latents: Latents, x_BLD: Array, noise: Noise) -> Latents:
    """TRM, EqR and HRM. H_cycles times: L_cycles times z_L = f(z_L, z_H + x), then z_H = f(z_H, z_L).

    EqR's f relaxes: (1 - lambda_) h + lambda_ f(h, inject) + noise_scale * eps.
    """

    def f(level: Parameters, h: Array, inject: Array, n: Array) -> Array:
        if not isinstance(arch, EqRArch):
            return stack(level, h, inject, arch, platform)
        relaxed = h + arch.lambda_ * (stack(level["f"], h, inject, arch, platform) - h)
        return relaxed + arch.noise_scale * noise(n) if arch.noise_scale else relaxed

    def latent_recursion(i: Array, latents: Latents) -> Latents:
        z_H, z_L = latents
        inject_BLD, n = z_H + x_BLD, i * (arch.L_cycles + 1)
        z_L = lax.fori_loop(0, arch.L_cycles, lambda j, z_L: f(p["L_level"], z_L, inject_BLD, n + j), z_L)
        return f(p.get("H_level", p["L_level"]), z_H, z_L, n + arch.L_cycles), z_L

    return lax.fori_loop(0, arch.H_cycles, latent_recursion, latents)


def embed(p: Parameters, static: Static, inputs_BS: Any, puzzle_ids_B: Any) -> Array:
    """x [B, L, D]: puzzle-embedding tokens, then the puzzle's tokens, with positions, times sqrt(D)."""
    arch, D = static.arch, static.arch.hidden_size
    x_BLD = p["embed_tokens"]["embedding_weight"][inputs_BS]
    if arch.puzzle_tokens:  # a row of the table; zeros fill the tokens' places that are left
        rows_BE = p["puzzle_emb"]["weights"][puzzle_ids_B]
        filled = jnp.pad(rows_BE, ((0, 0), (0, arch.puzzle_tokens * D - rows_BE.shape[1])))
        x_BLD = jnp.concatenate((filled.reshape(-1, arch.puzzle_tokens, D), x_BLD), axis=1)
    if arch.pos_encodings == "learned":
        x_BLD = 0.707106781 * (x_BLD + p["embed_pos"]["embedding_weight"])
    elif arch.pos_encodings == "absolute":
        x_BLD = 0.707106781 * (x_BLD + sinusoids(static.length, D).numpy().astype(static.dtype))
    return math.sqrt(D) * x_BLD


def iterate(p: Parameters, static: Static, latents: Latents, x_BLD: Array, noise: Noise) -> tuple[Latents, Readout]:
    """One outer iteration of every row on its embedded puzzle x. The first position gives the halting logit."""
    latents = outer_iteration(p["core"], static, latents, x_BLD, noise)
    z_BLD = latents[0]
    q_B2 = product(z_BLD[:, 0].astype(jnp.float32), p["q_head"]["weight"]) + p["q_head"]["bias"]
    return latents, Readout(product(z_BLD[:, -static.seq_len :], p["lm_head"]["weight"]), q_B2[:, 0])
