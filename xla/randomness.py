"""Random numbers. A trajectory's key is a function of (seed, puzzle, restart), and of nothing else.

So its numbers depend neither on the slot, nor on the device, nor on the other rows. Shapes: R rows, each a trajectory.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.random import threefry_2x32

from models.layers import CUT, CUT_STD

START, NOISE, PERTURB = range(3)
"""What a trajectory's key is folded with: its start, the noise of the network, the noise added to the latents."""


def trajectory_keys(seed: int, puzzle_R: Array, restart_R: Array) -> Array:
    """The keys [R] of trajectories, given the numbers of their puzzles and restarts."""
    key = jax.random.key(seed, impl="threefry2x32")
    return fold(fold(jnp.broadcast_to(key, puzzle_R.shape), puzzle_R), restart_R)


def fold(keys_R: Array, number_R: Array | int) -> Array:
    """Keys [R] that depend on a number, one for all rows or one for each."""
    numbers = jnp.broadcast_to(jnp.asarray(number_R, jnp.uint32), keys_R.shape)
    return jax.vmap(jax.random.fold_in)(keys_R, numbers)


def truncated_normal(keys_R: Array, shape: tuple[int, ...], std: float, dtype: Any) -> Array:
    """Samples [R, *shape] of a normal distribution cut at two standard deviations, rescaled to `std`."""
    samples = jax.vmap(lambda key: jax.random.truncated_normal(key, -CUT, CUT, shape))(keys_R)
    return (samples * (std / CUT_STD)).astype(dtype)


QUANTILE = (1.18455e-5, 4.02111e-4, 4.94425e-3, 1.814491e-2, -3.2769856e-1, 1.2532023)
"""A polynomial in w = log(1 - x^2): x QUANTILE(w) is the normal quantile of (1 + x) / 2 to a part in 9,000."""


def normal(keys_R: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Samples [R, *shape] of N(0, 1), each row from its own key: the quantiles of 16 random bits, within +-4.33.

    A block of Threefry has the bits of four. The barrier keeps compilers from computing a block four times.
    """
    size = math.prod(shape)
    counts = jnp.arange(-(-size // 4) * 2, dtype=jnp.uint32)
    words = jax.vmap(lambda key: threefry_2x32(jax.random.key_data(key), counts))(keys_R)
    first, second = (word[..., None] for word in lax.optimization_barrier(tuple(jnp.split(words, 2, axis=1))))
    i = jnp.arange(4, dtype=jnp.uint32)
    bits = jnp.where(i < 2, first, second) >> 16 * (i % 2) & 0xFFFF
    x = (bits.astype(jnp.int32) + 0.5) * 2.0**-15 - 1
    z = x * jnp.polyval(jnp.array(QUANTILE), jnp.log(1 - x * x))
    return z.astype(dtype).reshape(len(z), -1)[:, :size].reshape(-1, *shape)
