"""Keys for random numbers. A trajectory's key is a function of (seed, puzzle, restart), and of nothing else.

So its numbers depend neither on the slot, nor on the device, nor on the other rows.

Shapes: R rows, each a trajectory.
"""

import jax
import jax.numpy as jnp
from jax import Array

START, NOISE, PERTURB = range(3)
"""What a trajectory's key is folded with: its start, the noise of the network, the noise added to the latents."""


def fold(keys_R: Array, number_R: Array | int) -> Array:
    """Keys [R] that depend on a number, one for all rows or one for each."""
    numbers = jnp.broadcast_to(jnp.asarray(number_R, jnp.uint32), keys_R.shape)
    return jax.vmap(jax.random.fold_in)(keys_R, numbers)


def trajectory_keys(seed: int, puzzle_R: Array, restart_R: Array) -> Array:
    """The keys [R] of trajectories, given the numbers of their puzzles and restarts."""
    key = jax.random.key(seed, impl="threefry2x32")
    return fold(fold(jnp.broadcast_to(key, puzzle_R.shape), puzzle_R), restart_R)
