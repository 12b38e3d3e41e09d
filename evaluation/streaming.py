"""Streaming evaluation: a pool of slots. A slot whose trajectory has halted takes the next (puzzle, restart).

Memory on the device depends on the number of slots alone, not on depth, breadth or the amount of data. The host
looks at the pool every few iterations. A slot that halts in between stays as it was at that iteration. So without
noise the results do not depend on how often the host looks.

Shapes: R slots, N puzzles, S tokens.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from evaluation.observations import Observation, concatenate
from evaluation.settings import Settings


class Pool(Protocol):
    """Slots on a device, each with a trajectory, or empty."""

    def fill(self, rows: np.ndarray, examples_R: np.ndarray, puzzles_R: np.ndarray, restarts_R: np.ndarray) -> None:
        """Begins trajectories in the slots `rows`, given their examples and the numbers of puzzle and restart."""
        ...

    def advance(self) -> None:
        """Makes `look_interval` iterations of every slot. A slot that halts stays as it is."""
        ...

    def halted_and_steps(self) -> np.ndarray:
        """Whether each slot has halted, and how many iterations it has made, [2, R]. Waits for the device."""
        ...

    def look(self, rows: np.ndarray) -> Observation:
        """What is measured of the trajectories in these slots, with `forced`: the halting rule has not fired."""
        ...

    def keep(self, rows: np.ndarray) -> None:
        """Gives up all slots but these."""
        ...


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
        pool: empty slots.
        size: how many slots it has.
        examples_N: the puzzles to work on.
        first: the first one's number in the whole evaluation.
        settings: how to evaluate, with a halting rule.
    """

    def __init__(self, pool: Pool, size: int, examples_N: np.ndarray, first: int, settings: Settings) -> None:
        self._pool, self._examples_N, self._first, self._settings = pool, examples_N, first, settings
        N, R = len(examples_N), size
        self._agreement = Agreement(N, settings.breadth, settings.agree)
        self._queue = self._agreement.queue()
        self._puzzle_R, self._restart_R = np.zeros(R, int), np.zeros(R, int)
        self._taken_R = np.zeros(R, bool)
        self._spent_N, self._ended_N = np.zeros(N, int), np.zeros(N, int)
        self._parts: list[tuple[np.ndarray, np.ndarray, Observation]] = []

    def run(self, progress: Callable[[int], object]) -> Streamed:
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
            self._pool.advance()
            capacity += self._settings.look_interval * len(self._taken_R)
        puzzle_T, restart_T = (np.concatenate([part[i] for part in self._parts]) for i in (0, 1))
        kept_N = self._agreement.kept_N
        order_T = np.lexsort((restart_T, puzzle_T))
        order_T = order_T[restart_T[order_T] < kept_N[puzzle_T[order_T]]]
        observation = concatenate([part[2] for part in self._parts]).rows(order_T)
        return Streamed(observation, kept_N, self._spent_N, capacity)

    def _collect(self) -> None:
        """Takes trajectories out of their slots: those that have halted, and those that no longer count."""
        halted_R, steps_R = self._pool.halted_and_steps()
        ended = np.flatnonzero(self._taken_R & (halted_R > 0))
        if len(ended):
            observation = self._pool.look(ended)
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

    def _refill(self) -> None:
        free = np.flatnonzero(~self._taken_R)
        following = list(islice(self._queue, len(free)))
        if not following:
            return
        rows = free[: len(following)]
        self._puzzle_R[rows], self._restart_R[rows] = np.array(following).T
        self._taken_R[rows] = True
        puzzles = self._puzzle_R[rows]
        self._pool.fill(rows, self._examples_N[puzzles], self._first + puzzles, self._restart_R[rows])

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
        self._pool.keep(kept)
