"""Trajectories of an evaluation: evaluation/trajectory.py, evaluation/slots.py and the losses, as pure functions.

A row's random numbers are a function of (seed, puzzle, restart, iteration).

Shapes: R rows, each a trajectory; S tokens, V vocabulary, L positions, D features, W the window of the score.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from dataset.puzzles import Batch
from evaluation.settings import Settings
from xla.layers import Parameters, Static
from xla.randomness import NOISE, PERTURB, START, fold, normal, trajectory_keys
from xla.reasoner import Latents, Readout, embed, iterate, start


class State(NamedTuple):
    """R trajectories, or slots for them: a slot that has halted is empty, or waits until the host looks."""

    latents: Latents
    keys: Array  # [R]
    puzzles: Batch  # of arrays
    steps: Array  # [R] int32: outer iterations made
    readout: Readout  # of the last
    residuals: Array  # [R, W] the last W, the latest last; NaN for iterations not made, and for the first
    calm: Array  # [R] int32: iterations in a row with a residual below the threshold
    fired: Array  # [R] bool: the halting rule fired; other trajectories end at the largest depth
    halted: Array  # [R] bool


Measured = dict[str, Array]  # values [R] of R rows by name, and `predictions` [R, S]


def begin(p: Parameters, static: Static, puzzles: Batch, puzzle_R: Array, restart_R: Array) -> State:
    """Rows before their first iteration, given the numbers of their puzzles and restarts."""
    keys_R, none_R = trajectory_keys(static.settings.seed, puzzle_R, restart_R), jnp.zeros(len(puzzle_R), jnp.int32)
    latents = start(p["core"], static, fold(keys_R, START))
    logits = jnp.zeros((*puzzles.inputs.shape, len(p["lm_head"]["weight"])), static.dtype)
    residuals = jnp.full((len(puzzle_R), static.settings.window), jnp.nan)
    readout = Readout(logits, jnp.zeros(len(puzzle_R)))
    return State(latents, keys_R, puzzles, none_R, readout, residuals, none_R, none_R > 0, none_R > 0)


def where_rows(rows_R: Array, yes: Any, no: Any) -> Any:
    """`yes` in the rows that `rows_R` marks, `no` in the others; trees of arrays [R, ...]."""
    return jax.tree.map(lambda a, b: jnp.where(rows_R.reshape(-1, *[1] * (a.ndim - 1)), a, b), yes, no)


def advance(p: Parameters, static: Static, x_RLD: Array, state: State) -> State:
    """One outer iteration, on the embedded puzzle x, of every row that has not halted.

    The residual is how far the answer moved: the L2 norm over V of the logits' change, mean over S.
    """
    settings, keys_R, latents = static.settings, fold(state.keys, state.steps), state.latents
    if settings.perturb_std:
        eps = (normal(fold(fold(keys_R, PERTURB), i), z.shape[1:], z.dtype) for i, z in enumerate(latents))
        moved = tuple(z + settings.perturb_std * eps_i for z, eps_i in zip(latents, eps, strict=True))
        latents = where_rows(state.steps > 0, moved, latents)
    noise_R = fold(keys_R, NOISE)
    eps_of = lambda n: normal(fold(noise_R, n), x_RLD.shape[1:], x_RLD.dtype)  # noqa: E731
    latents, readout = iterate(p, static, latents, x_RLD, eps_of)
    change_RSV = readout.logits.astype(jnp.float32) - state.readout.logits.astype(jnp.float32)
    residual_R = jnp.where(state.steps > 0, jnp.linalg.norm(change_RSV, axis=-1).mean(-1), jnp.nan)
    residuals_RW = jnp.concatenate((state.residuals[:, 1:], residual_R[:, None]), axis=1)
    new = state._replace(latents=latents, steps=state.steps + 1, readout=readout, residuals=residuals_RW)
    if (halting := settings.halting) is None:
        return new
    calm_R = jnp.where(residual_R < (halting.residual or 0.0), state.calm + 1, 0)
    fired_R = halting.fires(new.steps, readout.q_halt, calm_R)
    halted_R = fired_R | (new.steps >= max(settings.depths))
    return where_rows(state.halted, state, new._replace(calm=calm_R, fired=fired_R, halted=halted_R))


def several(p: Parameters, static: Static, state: State, iterations: Array | int) -> State:
    """So many outer iterations."""
    x_RLD = embed(p, static, state.puzzles.inputs, state.puzzles.puzzle_ids)
    return lax.fori_loop(0, iterations, lambda _, state: advance(p, static, x_RLD, state), state)


def token_loss(logits_RSV: Array, labels_RS: Array, loss_type: str) -> Array:
    """The loss per token [R, S] in float32; 0 for a label below 0."""
    x = logits_RSV.astype(jnp.float32)
    if loss_type == "stablemax_cross_entropy":  # s(x) = x + 1 for x >= 0, 1 / (1 - x) below
        x = jnp.where(x >= 0, jnp.log1p(jnp.maximum(x, 0)), -jnp.log1p(-jnp.minimum(x, 0)))
    picked_RS1 = jnp.take_along_axis(jax.nn.log_softmax(x), jnp.maximum(labels_RS, 0)[..., None], axis=-1)
    return jnp.where(labels_RS >= 0, -picked_RS1[..., 0], 0.0)


def latent_statistics(latents: Latents) -> Measured:
    """Statistics of the two latents, each [R]: over D, mean over positions. Empty for latents of other shapes."""
    if len(latents) != 2:
        return {}
    z_H, z_L = (z.astype(jnp.float32) for z in latents)

    def cosine(a: Array, b: Array) -> Array:
        a, b = (z / jnp.maximum(jnp.linalg.norm(z, axis=-1, keepdims=True), 1e-8) for z in (a, b))
        return (a * b).sum(-1)

    by_position = {
        "zH_mean": z_H.mean(-1),
        "zH_std": z_H.std(-1, ddof=1),
        "zL_mean": z_L.mean(-1),
        "zL_std": z_L.std(-1, ddof=1),
        "zH_zL_cos_sim": cosine(z_H, z_L),
        "zH_zL_pearson": cosine(z_H - z_H.mean(-1, keepdims=True), z_L - z_L.mean(-1, keepdims=True)),
    }
    return {name: value.mean(1) for name, value in by_position.items()}


def measure(state: State, settings: Settings) -> Measured:
    """Everything that is measured of the rows, but for their logits and what follows from the answers."""
    labels: Any = state.puzzles.labels
    loss_R = token_loss(state.readout.logits, labels, settings.loss_type).sum(-1)
    return {
        "predictions": state.readout.logits.argmax(-1).astype(jnp.int32),
        "q_halt": state.readout.q_halt,
        "score": jnp.nanmean(state.residuals, axis=-1),
        "lm_loss": loss_R / jnp.maximum((labels >= 0).sum(-1), 1),
        "steps": state.steps,
        **latent_statistics(state.latents),
        **({"forced": ~state.fired, "halted": state.halted} if settings.halting else {}),
        "residual": state.residuals[:, -1],
    }


def trajectories(p: Parameters, static: Static, puzzles: Batch, puzzle_R: Array, restart_R: Array) -> Measured:
    """What is measured of fresh rows at every depth of the settings, each [R, depths, ...].

    One scan over the depths, in which memory does not grow with the iterations.
    """

    def to_depth(state: State, iterations: Array) -> tuple[State, Measured]:
        state = several(p, static, state, iterations)
        return state, measure(state, static.settings)

    gaps = jnp.diff(jnp.array([0, *static.settings.depths]))
    _, measured = lax.scan(to_depth, begin(p, static, puzzles, puzzle_R, restart_R), gaps)
    return {name: value.swapaxes(0, 1) for name, value in measured.items()}


def refill(p: Parameters, static: Static, state: State, slots_R: Array, *fresh: Any) -> tuple[State, Measured]:
    """Streaming: begins `fresh` trajectories in some slots, makes `look_interval` iterations, and measures all."""
    state = where_rows(slots_R, begin(p, static, *fresh), state)
    state = several(p, static, state, static.settings.look_interval)
    return state, measure(state, static.settings)
