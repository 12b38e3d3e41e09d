"""Trajectories: an outer iteration of many rows, what is measured of it, and all depths in one scan.

As evaluation/trajectory.py, models/losses.py and evaluation/observations.py, as pure functions. A row's random numbers
are a function of (seed, puzzle, restart, iteration).

Shapes: R rows, each a trajectory; S tokens, V vocabulary, L positions, D features, W the window of the score.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from dataset.puzzles import Puzzles
from evaluation.observations import Observation
from evaluation.settings import Settings
from xla.cores import Latents, start
from xla.layers import Parameters, Static, normal
from xla.randomness import NOISE, PERTURB, START, fold, trajectory_keys
from xla.reasoner import Readout, embed, iterate


class Program(NamedTuple):
    """What a compiled evaluation depends on, beside the shapes of arrays."""

    static: Static
    settings: Settings
    start_std: float | None  # random starts for a model that has stored ones


class Puzzle(NamedTuple):
    """The puzzles of R rows, as numbers of dataset.puzzles.Batch."""

    inputs: Array  # [R, S] int32
    labels: Array  # [R, S] int32
    puzzle_ids: Array  # [R] int32


class State(NamedTuple):
    """R trajectories, each with its puzzle, its key and how far it has come."""

    latents: Latents  # [R, L, D]
    keys: Array  # [R]
    puzzle: Puzzle
    steps: Array  # [R] int32: outer iterations made
    readout: Readout  # of the last
    residuals: Array  # [R, W] the last W, the latest last; NaN for iterations not made, and for the first


Measured = dict[str, Array]
"""What is measured of R rows: values [R] by name, `predictions` [R, S], `q_halt` [R] and `score` [R]."""


def begin(p: Parameters, program: Program, puzzle: Puzzle, puzzle_R: Array, restart_R: Array) -> State:
    """Rows before their first iteration, given the numbers of their puzzles and restarts."""
    keys_R, rows = trajectory_keys(program.settings.seed, puzzle_R, restart_R), len(puzzle_R)
    latents = start(p["core"], program.static, fold(keys_R, START), program.start_std)
    vocabulary = len(p["embed_tokens"]["embedding_weight"])
    zeros_R = jnp.zeros(rows)
    readout = Readout(jnp.zeros((*puzzle.inputs.shape, vocabulary), program.static.dtype), zeros_R, zeros_R)
    residuals = jnp.full((rows, program.settings.window), jnp.nan, jnp.float32)
    return State(latents, keys_R, puzzle, jnp.zeros(rows, jnp.int32), readout, residuals)


def residual(logits_RSV: Array, before_RSV: Array) -> Array:
    """How far the answer moved in an outer iteration [R]: the L2 norm over V of the logits' change, mean over S."""
    change = logits_RSV.astype(jnp.float32) - before_RSV.astype(jnp.float32)
    return jnp.sqrt(jnp.square(change).sum(-1)).mean(-1)


def advance(p: Parameters, program: Program, x_RLD: Array, state: State) -> State:
    """One outer iteration of every row on its embedded puzzle x."""
    keys_R, std = fold(state.keys, state.steps), program.settings.perturb_std
    shape, dtype = x_RLD.shape[1:], x_RLD.dtype

    def perturbed(i: int, z: Array) -> Array:
        return z + std * normal(fold(fold(keys_R, PERTURB), i), z.shape[1:], dtype)

    def noise(n: Array | int) -> Array:
        return normal(fold(noise_keys_R, n), shape, dtype)

    noise_keys_R = fold(keys_R, NOISE)
    latents = tuple(perturbed(i, z) for i, z in enumerate(state.latents)) if std else state.latents
    latents, readout = iterate(p, program.static, latents, x_RLD, noise)
    moved_R = jnp.where(state.steps > 0, residual(readout.logits, state.readout.logits), jnp.nan)
    residuals_RW = jnp.concatenate((state.residuals[:, 1:], moved_R[:, None]), axis=1)
    return state._replace(latents=latents, steps=state.steps + 1, readout=readout, residuals=residuals_RW)


def token_loss(logits_RSV: Array, labels_RS: Array, loss_type: str) -> Array:
    """The loss per token [R, S] in float32; 0 for a label below 0."""
    x = logits_RSV.astype(jnp.float32)
    if loss_type == "stablemax_cross_entropy":  # s(x) = x + 1 for x >= 0, 1 / (1 - x) below
        x = jnp.where(x >= 0, jnp.log1p(jnp.maximum(x, 0)), -jnp.log1p(-jnp.minimum(x, 0)))
    picked_RS1 = jnp.take_along_axis(jax.nn.log_softmax(x), jnp.maximum(labels_RS, 0)[..., None], axis=-1)
    return jnp.where(labels_RS >= 0, -picked_RS1[..., 0], 0.0)


def row_metrics(readout: Readout, labels_RS: Array, settings: Settings) -> Measured:
    """Accuracies and losses, each [R], as models.losses.row_metrics."""
    predictions_RS, scored = readout.logits.argmax(-1), labels_RS >= 0
    tokens_R = scored.sum(-1)
    right_R = ((predictions_RS == labels_RS) & scored).sum(-1)
    exact_R = right_R == tokens_R
    some_R = jnp.maximum(tokens_R, 1)
    lm_loss = token_loss(readout.logits, labels_RS, settings.loss_type).sum(-1) / some_R
    q_halt_loss = jax.nn.softplus(readout.q_halt) - exact_R * readout.q_halt
    return {
        "accuracy": right_R / some_R,
        "exact_accuracy": exact_R,
        "q_halt_accuracy": (readout.q_halt >= 0) == exact_R,
        "lm_loss": lm_loss,
        "q_halt_loss": q_halt_loss,
        "total_loss": lm_loss + 0.5 * q_halt_loss if settings.learned_halting else lm_loss,
    }


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
    """Everything that is measured of the rows, but for their logits."""
    return {
        **row_metrics(state.readout, state.puzzle.labels, settings),
        "steps": state.steps,
        **latent_statistics(state.latents),
        "residual": state.residuals[:, -1],
        "predictions": state.readout.logits.argmax(-1).astype(jnp.int32),
        "q_halt": state.readout.q_halt,
        "score": jnp.nanmean(state.residuals, axis=-1),
    }


def puzzle_rows(data: Puzzles, examples_R: np.ndarray) -> Puzzle:
    """The given examples, on the host."""
    arrays: Any = [tensor.numpy() for tensor in data.rows(examples_R)]
    return Puzzle(*arrays)


def observation(measured: Mapping[str, np.ndarray]) -> Observation:
    """What was measured, as all engines give it."""
    values = {name: value.astype(float) for name, value in measured.items()}
    for name in ("predictions", "q_halt", "score"):
        del values[name]
    values["residual"] = values.pop("residual")  # the last, as with PyTorch
    return Observation(
        values, measured["predictions"], measured["q_halt"].astype(float), measured["score"].astype(float)
    )


def trajectories(p: Parameters, program: Program, puzzle: Puzzle, puzzle_R: Array, restart_R: Array) -> Measured:
    """What is measured at every depth of the settings, each [depths, R, ...]. One scan over the depths, in which
    memory does not grow with the iterations."""
    state = begin(p, program, puzzle, puzzle_R, restart_R)
    x_RLD = embed(p, program.static, puzzle.inputs, puzzle.puzzle_ids)

    def to_depth(state: State, iterations: Array) -> tuple[State, Measured]:
        state = lax.fori_loop(0, iterations, lambda _, s: advance(p, program, x_RLD, s), state)
        return state, measure(state, program.settings)

    depths = program.settings.depths
    gaps = [depth - before for depth, before in zip(depths, [0, *depths], strict=False)]
    return lax.scan(to_depth, state, jnp.asarray(gaps, jnp.int32))[1]
