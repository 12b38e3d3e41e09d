"""The slots of a streaming evaluation: evaluation/slots.py in XLA.

A pool has a fixed number of slots. One compiled program refills them, makes a few iterations and measures them; it
writes over the memory of the slots that it was given.

Shapes: R slots, S tokens.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from dataset.puzzles import Puzzles
from evaluation.observations import Clock, Observation
from xla.layers import Parameters
from xla.reasoner import embed
from xla.sharding import Sharded
from xla.trajectory import Measured, Program, Puzzle, State, advance, begin, measure, observation, puzzle_rows


class Slots(NamedTuple):
    """The pool: a value. A slot that has halted is empty, or waits until the host looks."""

    state: State
    calm: Array  # [R] int32: iterations in a row with a residual below the threshold
    fired: Array  # [R] bool: the halting rule fired; other trajectories end at the largest depth
    halted: Array  # [R] bool


class Fill(NamedTuple):
    """Trajectories that begin in some of the slots."""

    rows: Array  # [R] bool: in which slots
    puzzle: Puzzle
    puzzles: Array  # [R] int32: the numbers of the puzzles
    restarts: Array  # [R] int32


def nothing(size: int, tokens: int) -> Fill:
    """No trajectories, for so many slots, on the host."""
    zeros: Any = np.zeros
    tokens_RS, numbers_R = (partial(zeros, shape, np.int32) for shape in ((size, tokens), size))
    return Fill(zeros(size, bool), Puzzle(tokens_RS(), tokens_RS(), numbers_R()), numbers_R(), numbers_R())


def where_rows(rows_R: Array, yes: Slots, no: Slots) -> Slots:
    """`yes` in the rows that `rows_R` marks, `no` in the others."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(rows_R.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    chosen: Slots = jax.tree.map(choose, yes, no)
    return chosen


def fresh(p: Parameters, program: Program, fill: Fill) -> Slots:
    """Slots whose trajectories begin."""
    state = begin(p, program, fill.puzzle, fill.puzzles, fill.restarts)
    no = jnp.zeros_like(fill.rows)
    return Slots(state, state.steps, no, no)


def empty(p: Parameters, program: Program, fill: Fill) -> Slots:
    """Slots without trajectories."""
    return fresh(p, program, fill)._replace(halted=jnp.ones(len(fill.rows), bool))


def iterate(p: Parameters, program: Program, x_RLD: Array, slots: Slots) -> Slots:
    """One outer iteration of every slot that has not halted."""
    halting, depth = program.settings.halting, max(program.settings.depths)
    assert halting is not None
    state = advance(p, program, x_RLD, slots.state)
    below_R = state.residuals[:, -1] < (0.0 if halting.residual is None else halting.residual)
    calm_R = jnp.where(below_R, slots.calm + 1, 0)
    fired_R = halting.fires(state.steps, state.readout.q_halt, calm_R)
    return where_rows(slots.halted, slots, Slots(state, calm_R, fired_R, fired_R | (state.steps >= depth)))


def refill_and_advance(p: Parameters, program: Program, slots: Slots, fill: Fill) -> tuple[Slots, Measured]:
    """Begins trajectories, makes `look_interval` iterations, and measures all slots."""
    slots = where_rows(fill.rows, fresh(p, program, fill), slots)
    puzzle = slots.state.puzzle
    x_RLD = embed(p, program.static, puzzle.inputs, puzzle.puzzle_ids)
    interval = program.settings.look_interval
    slots = lax.fori_loop(0, interval, lambda _, slots: iterate(p, program, x_RLD, slots), slots)
    return slots, measure(slots.state, program.settings) | {"forced": ~slots.fired, "halted": slots.halted}


class XLAPool:
    """`evaluation.streaming.Pool` in XLA. On many devices it may have more slots than it was asked for.

    Args:
        step: `refill_and_advance`, compiled.
        slots: empty slots.
        size: how many slots were asked for.
        data: the puzzles.
        sharded: the devices.
        clock: measures the device.
    """

    def __init__(
        self,
        step: Callable[..., tuple[Slots, Measured]],
        slots: Slots,
        size: int,
        data: Puzzles,
        sharded: Sharded,
        clock: Clock,
    ) -> None:
        self._step, self._slots, self._size, self._data = step, slots, size, data
        self._sharded, self._clock = sharded, clock
        self._measured: Measured = {"halted": slots.halted, "steps": slots.state.steps}
        self._fill = nothing(len(slots.calm), data.shape.seq_len)

    def fill(self, rows: np.ndarray, examples_R: np.ndarray, puzzles_R: np.ndarray, restarts_R: np.ndarray) -> None:
        for array, new in zip(
            jax.tree.leaves(self._fill),
            (True, *puzzle_rows(self._data, examples_R), puzzles_R, restarts_R),
            strict=True,
        ):
            array[rows] = new

    def advance(self) -> None:
        with self._clock:
            self._slots, self._measured = self._step(self._slots, self._sharded.spread(self._fill))
            jax.block_until_ready(self._measured)
        self._fill.rows[:] = False

    def halted_and_steps(self) -> np.ndarray:
        return np.stack([np.asarray(self._measured[name])[: self._size].astype(int) for name in ("halted", "steps")])

    def look(self, rows: np.ndarray) -> Observation:
        measured = {name: np.asarray(value) for name, value in self._measured.items() if name != "halted"}
        return observation(measured).rows(rows)

    def keep(self, rows: np.ndarray) -> None:
        self._size, rows = len(rows), self._sharded.padded(rows)
        self._slots = self._sharded.take(self._slots, rows)
        self._fill = jax.tree.map(lambda array: array[rows], self._fill)
