"""Streaming evaluation: a pool of slots. A slot whose trajectory has halted takes the next (puzzle, restart).

Memory on the device depends on the number of slots alone, not on depth, breadth or the amount of data. The host
looks at the pool every few iterations. A slot that halts in between stays as it was at that iteration. So without
noise the results do not depend on how often the host looks.

Shapes: R slots, N puzzles, S tokens, V vocabulary, W the window of the convergence score.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from dataset.puzzles import Batch, Puzzles
from evaluation.observations import Clock, Observation, concatenate, observe
from evaluation.settings import Settings
from evaluation.trajectory import Starts, begin, convergence_score, perturbed, residual
from models.core import Latents
from models.reasoner import Readout, Reasoner, State, where_rows


class Slots(NamedTuple):
    """The pool: a value, like a State. A slot that has halted is empty, or waits until the host looks."""

    state: State
    readout: Readout  # of the last iteration
    residuals: Tensor  # [R, W] the last W, the latest last; NaN for iterations not made, and for the first
    calm: Tensor  # [R] int32: iterations in a row with a residual below the threshold
    fired: Tensor  # [R] bool: the halting rule fired; other trajectories end at the largest depth


def fresh(model: Reasoner, batch: Batch, latents: Latents, window: int) -> Slots:
    """Slots whose trajectories begin at `latents`."""
    state = begin(batch, latents)
    rows, tokens = batch.inputs.shape
    zeros_R = state.inputs.new_zeros(rows, dtype=torch.float32)
    logits = zeros_R.new_zeros(rows, tokens, model.lm_head.weight.shape[0], dtype=model.embed_tokens.dtype)
    residuals = zeros_R.new_full((rows, window), torch.nan)
    return Slots(state, Readout(logits, zeros_R, zeros_R), residuals, state.steps, state.halted)


def iterate(model: Reasoner, slots: Slots, settings: Settings) -> Slots:
    """One outer iteration of every slot that has not halted. Does not wait for the device."""
    halting = settings.halting
    assert halting is not None
    state, readout = model.advance(perturbed(slots.state, settings.perturb_std))
    residual_R = torch.where(state.steps > 1, residual(readout.logits, slots.readout.logits), torch.nan)
    below_R = residual_R < (0.0 if halting.residual is None else halting.residual)
    calm_R = torch.where(below_R, slots.calm + 1, 0)
    fired_R = halting.fires(state.steps, readout.q_halt, calm_R)
    state = state._replace(halted=fired_R | (state.steps >= max(settings.depths)))
    residuals_RW = torch.cat((slots.residuals[:, 1:], residual_R[:, None]), dim=1)
    moved = Slots(state, readout, residuals_RW, calm_R, fired_R)
    return _where(slots.state.halted, slots, moved)


def _where(rows_R: Tensor, yes: Slots, no: Slots) -> Slots:
    def choose(old: Tensor, new: Tensor) -> Tensor:
        return old if old is new else where_rows(rows_R, old, new)

    chosen: Slots = tree_map(choose, yes, no)
    return chosen


class Agreement:
    """How many of a puzzle's restarts count: up to the restart with which `agree` have halted on one answer.

    Restarts count in order, each once all before it have ended. So the number depends on their answers alone, not on
    which ended first. With `agree` None all restarts count.
    """

    def __init__(self, puzzles: int, breadth: int, agree: int | None) -> None:
        self.kept_N = np.full(puzzles, breadth)
        self._agree = agree
        self._waiting: list[dict[int, bytes | None]] = [{} for _ in range(puzzles)]
        self._votes: list[Counter[bytes]] = [Counter() for _ in range(puzzles)]
        self._ended_N = np.zeros(puzzles, int)

    def add(self, puzzle: int, restart: int, answer: bytes | None) -> None:
        """Notes that a restart has ended with this answer (None: its halting rule never fired)."""
        if self._agree is None or restart >= self.kept_N[puzzle]:
            return
        waiting, votes = self._waiting[puzzle], self._votes[puzzle]
        waiting[restart] = answer
        while (ended := int(self._ended_N[puzzle])) in waiting:
            answer = waiting.pop(ended)
            self._ended_N[puzzle] += 1
            if answer is not None:
                votes[answer] += 1
                if votes[answer] == self._agree:
                    self.kept_N[puzzle] = ended + 1
                    waiting.clear()
                    votes.clear()
                    return

    def queue(self) -> Iterator[tuple[int, int]]:
        """Yields (puzzle, restart): first restarts of all puzzles, then second ones. Leaves out restarts that no
        longer count."""
        for restart in range(int(self.kept_N.max(initial=0))):
            for puzzle in range(len(self.kept_N)):
                if restart < self.kept_N[puzzle]:
                    yield puzzle, restart


class Streamed(NamedTuple):
    """What became of N puzzles."""

    observation: Observation  # the trajectories that count, puzzle by puzzle, restarts in order
    kept_N: np.ndarray  # how many trajectories of each puzzle count
    spent_N: np.ndarray  # iterations spent on each puzzle, also on restarts that do not count
    capacity: int  # iterations that the slots could have made meanwhile


class Stream:
    """A pool at work on N puzzles.

    Args:
        model: the model, in evaluation mode.
        data: the puzzles.
        examples_N: which of them to work on.
        first: the first one's number in the whole evaluation.
        starts: draws the trajectories' starts.
        settings: how to evaluate, with a halting rule.
    """

    def __init__(
        self, model: Reasoner, data: Puzzles, examples_N: np.ndarray, first: int, starts: Starts, settings: Settings
    ) -> None:
        self._model, self._data, self._examples_N, self._first = model, data, examples_N, first
        self._starts, self._settings = starts, settings
        N, R = len(examples_N), settings.rows
        self._agreement = Agreement(N, settings.breadth, settings.agree)
        self._queue = self._agreement.queue()
        self._puzzle_R, self._restart_R = np.zeros(R, int), np.zeros(R, int)
        self._taken_R = np.zeros(R, bool)
        self._spent_N, self._ended_N = np.zeros(N, int), np.zeros(N, int)
        self._parts: list[tuple[np.ndarray, np.ndarray, Observation]] = []
        empty = self._fresh(np.zeros(R, int), np.zeros(R, int))
        self._slots = empty._replace(state=empty.state._replace(halted=torch.ones_like(empty.state.halted)))

    @torch.no_grad()
    def run(self, clock: Clock, progress: Callable[[int], object]) -> Streamed:
        """Runs to the end. Tells `progress` how many more trajectories have ended or no longer count."""
        settled = capacity = 0
        while True:
            self._collect()
            self._refill()
            self._shrink()
            done = np.where(self._agreement.kept_N < self._settings.breadth, self._settings.breadth, self._ended_N)
            progress(int(done.sum()) - settled)
            settled = int(done.sum())
            if not self._taken_R.any():
                break
            with clock:
                for _ in range(self._settings.look_interval):
                    self._slots = iterate(self._model, self._slots, self._settings)
            capacity += self._settings.look_interval * len(self._taken_R)
        puzzle_T, restart_T = (np.concatenate([part[i] for part in self._parts]) for i in (0, 1))
        kept_N = self._agreement.kept_N
        order_T = np.lexsort((restart_T, puzzle_T))
        order_T = order_T[restart_T[order_T] < kept_N[puzzle_T[order_T]]]
        observation = concatenate([part[2] for part in self._parts]).rows(order_T)
        return Streamed(observation, kept_N, self._spent_N, capacity)

    def _fresh(self, puzzle_R: np.ndarray, restart_R: np.ndarray) -> Slots:
        batch = self._data.rows(self._examples_N[puzzle_R])
        latents = self._starts(self._first + puzzle_R, restart_R, batch.inputs.device)
        return fresh(self._model, batch, latents, self._settings.window)

    def _collect(self) -> None:
        """Takes trajectories out of their slots: those that have halted, and those that no longer count."""
        state = self._slots.state
        halted_R, steps_R = torch.stack((state.halted.int(), state.steps)).cpu().numpy()
        ended = np.flatnonzero(self._taken_R & (halted_R > 0))
        if len(ended):
            observation = self._look(ended)
            puzzles, restarts = self._puzzle_R[ended], self._restart_R[ended]
            self._parts.append((puzzles, restarts, observation))
            np.add.at(self._ended_N, puzzles, 1)
            for puzzle, restart, answer, forced in zip(
                puzzles, restarts, observation.predictions_RS, observation.values["forced"], strict=True
            ):
                self._agreement.add(puzzle, restart, None if forced else answer.tobytes())
        freed_R = self._restart_R >= self._agreement.kept_N[self._puzzle_R]
        leaving = np.flatnonzero(self._taken_R & ((halted_R > 0) | freed_R))
        np.add.at(self._spent_N, self._puzzle_R[leaving], steps_R[leaving])
        self._taken_R[leaving] = False

    def _look(self, rows: np.ndarray) -> Observation:
        index = torch.from_numpy(rows).to(self._slots.fired.device)
        slots: Slots = tree_map(lambda t: t[index], self._slots)
        score_R, forced_R = convergence_score(slots.residuals), ~slots.fired
        return observe(slots.state, slots.readout, slots.residuals[:, -1], score_R, self._settings, forced=forced_R)

    def _refill(self) -> None:
        free = np.flatnonzero(~self._taken_R)
        following = list(islice(self._queue, len(free)))
        if not following:
            return
        rows = free[: len(following)]
        self._puzzle_R[rows], self._restart_R[rows] = np.array(following).T
        self._taken_R[rows] = True
        new = self._fresh(self._puzzle_R[rows], self._restart_R[rows])
        index = torch.from_numpy(rows).to(new.fired.device)
        self._slots = tree_map(lambda old, fill: old.index_copy(0, index, fill), self._slots, new)

    def _shrink(self) -> None:
        """Cuts the pool to a quarter while that holds all running trajectories: at the end, when none follow."""
        rows, running = len(self._taken_R), int(self._taken_R.sum())
        while 0 < 4 * running <= rows:
            rows //= 4
        if rows == len(self._taken_R):
            return
        kept = np.argsort(~self._taken_R, kind="stable")[:rows]
        self._puzzle_R, self._restart_R, self._taken_R = (
            array[kept] for array in (self._puzzle_R, self._restart_R, self._taken_R)
        )
        index = torch.from_numpy(kept).to(self._slots.fired.device)
        self._slots = tree_map(lambda t: t[index], self._slots)
