"""How each model's latents start, and its outer iteration: models/core.py, recursion.py, relaxation.py, hrm.py,
hrm_sru.py and feedforward.py as pure functions.

Shapes: B rows, L positions, D features. Cells of HRM-SRU are [B, layers, D].
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from jax import Array, lax

from config.architectures import EqRArch, FeedforwardArch, HRMArch, HRMSRUArch, RecursionArch
from xla.layers import Parameters, Static, stack, truncated_normal
from xla.randomness import fold
from xla.sru import sru_stack

Latents = tuple[Array, ...]
Noise = Callable[[Array | int], Array]
"""The noise eps [B, L, D] of the n-th application of the network in an outer iteration, counted from 0."""


def start(p: Parameters, static: Static, keys_B: Array, std: float | None) -> Latents:
    """The latents of fresh rows. `std`: random starts for a model that has stored ones (None: the stored ones)."""
    arch, dtype = static.arch, static.dtype
    rows, shape = len(keys_B), (static.length, arch.hidden_size)
    if isinstance(arch, FeedforwardArch):
        return (jnp.zeros((rows, *shape), dtype),)
    if isinstance(arch, HRMSRUArch):
        zeros, stored = jnp.zeros((rows, *shape), dtype), [cells.swapaxes(0, 1) for cells in _stored(p)]
        if std is None:
            return zeros, *(jnp.broadcast_to(cells, (rows, *cells.shape[1:])) for cells in stored)
        return zeros, *(truncated_normal(fold(keys_B, i), c.shape[1:], std, dtype) for i, c in enumerate(stored))
    if isinstance(arch, EqRArch):
        stds = (arch.H_init_std, arch.L_init_std)
    elif std is None:
        return tuple(jnp.broadcast_to(vector, (rows, *shape)) for vector in _stored(p))
    else:
        stds = (std, std)
    return tuple(truncated_normal(fold(keys_B, i), shape, std, dtype) for i, std in enumerate(stds))


def _stored(p: Parameters) -> tuple[Array, Array]:
    return p["start"]["H_init"], p["start"]["L_init"]


def outer_iteration(p: Parameters, static: Static, latents: Latents, x_BLD: Array, noise: Noise) -> Latents:
    """The latents after one outer iteration on the embedded puzzle x."""
    arch = static.arch
    if isinstance(arch, RecursionArch):
        return recursion(p, arch, static.platform, latents, x_BLD, noise)
    if isinstance(arch, HRMArch):
        return hierarchy(p, arch, static.platform, latents, x_BLD)
    if isinstance(arch, HRMSRUArch):
        _, c_H, c_L = latents
        y_BLD, c_L = sru_stack(p["L_level"], x_BLD, c_L, static.platform)
        y_BLD, c_H = sru_stack(p["H_level"], y_BLD, c_H, static.platform)
        return y_BLD, c_H, c_L
    f = partial(stack, p["L_level"], inject_BLD=x_BLD, arch=arch, platform=static.platform)
    return (lax.fori_loop(0, arch.repeats, lambda _, z: f(z), latents[0]),)


def relax(h: Array, target: Array, lambda_: float, noise_scale: float, eps: Array | None) -> Array:
    """(1 - lambda_) h + lambda_ target + noise_scale * eps."""
    relaxed = h + lambda_ * (target - h)
    return relaxed if eps is None else relaxed + noise_scale * eps


def recursion(
    p: Parameters, arch: RecursionArch, platform: str, latents: Latents, x_BLD: Array, noise: Noise
) -> Latents:
    """TRM and EqR. A pass is L_cycles times z_L = f(z_L, z_H + x), then z_H = f(z_H, z_L); H_cycles passes."""

    def f(level: Parameters, h: Array, inject: Array, n: Array) -> Array:
        if not isinstance(arch, EqRArch):
            return stack(level, h, inject, arch, platform)
        eps = noise(n) if arch.noise_scale else None
        return relax(h, stack(level["f"], h, inject, arch, platform), arch.lambda_, arch.noise_scale, eps)

    def latent_recursion(i: Array, latents: Latents) -> Latents:
        z_H, z_L = latents
        inject_BLD, n = z_H + x_BLD, i * (arch.L_cycles + 1)
        z_L = lax.fori_loop(0, arch.L_cycles, lambda j, z_L: f(p["L_level"], z_L, inject_BLD, n + j), z_L)
        return f(p.get("H_level", p["L_level"]), z_H, z_L, n + arch.L_cycles), z_L

    return lax.fori_loop(0, arch.H_cycles, latent_recursion, latents)


def hierarchy(p: Parameters, arch: HRMArch, platform: str, latents: Latents, x_BLD: Array) -> Latents:
    """HRM. H_cycles times: L_cycles times z_L = L(z_L, z_H + x), then z_H = H(z_H, z_L)."""

    def cycle(_: Array, latents: Latents) -> Latents:
        z_H, z_L = latents
        inject_BLD = z_H + x_BLD
        z_L = lax.fori_loop(0, arch.L_cycles, lambda _, z_L: stack(p["L_level"], z_L, inject_BLD, arch, platform), z_L)
        return stack(p["H_level"], z_H, z_L, arch, platform), z_L

    return lax.fori_loop(0, arch.H_cycles, cycle, latents)
