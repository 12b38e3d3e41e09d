"""What became of every puzzle of an evaluation: EVAL_DIR/per_puzzle.csv, a line for each depth and puzzle.

Shapes: R rows, each a trajectory; M puzzles with n trajectories each.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dataset.csv_puzzles import csv_rows
from evaluation.observations import Observation
from evaluation.scoring import grouped_by_count
from evaluation.selection import select
from runtime.files import write_whole

COLUMNS = ("depth", "example", "trajectories", "right", "iterations", "majority", "best_converged")
"""Of the puzzle with index `example` in the split: how many trajectories count, how many of these are exactly right,
the iterations that they made, and whether the answer that a rule believes is right (nothing where none has a score)."""

FILE = "per_puzzle.csv"

Line = list[int | None]
"""The values of COLUMNS; fit for JSON."""


class PerPuzzle:
    """Notes at every depth what became of each puzzle: an observer of an evaluation."""

    def __init__(self) -> None:
        self._lines: list[Line] = []

    def observe(self, depth: int, examples_R: np.ndarray, seen: Observation) -> None:
        """Notes the outcome of whole puzzles, whose trajectories stand next to each other."""
        first_N = np.flatnonzero(np.diff(examples_R, prepend=-1))
        kept_N = np.diff(first_N, append=len(examples_R))
        for puzzles_M, rows_Mn, candidates in grouped_by_count(seen, kept_N):
            right_Mn = seen.values["exact_accuracy"][rows_Mn].astype(int)
            majority_M, best_M = (
                np.take_along_axis(right_Mn, select(rule, candidates)[:, None], axis=1)[:, 0].astype(object)
                for rule in ("majority", "convergence")
            )
            best_M[np.isnan(candidates.scores_NB).all(1)] = None
            columns = (
                np.full(len(puzzles_M), depth),
                examples_R[first_N[puzzles_M]],
                kept_N[puzzles_M],
                right_Mn.sum(1),
                candidates.steps_NB.sum(1).astype(int),
                majority_M,
                best_M,
            )
            self._lines += map(list, zip(*(column.tolist() for column in columns), strict=True))

    def take(self) -> list[Line]:
        """The lines since the last time."""
        taken, self._lines = self._lines, []
        return taken


def write_per_puzzle(directory: Path, taken: Iterable[list[Line]]) -> None:
    """Writes per_puzzle.csv from all that `take` returned, in any order, by depth and example."""
    lines = sorted((line for lines in taken for line in lines), key=lambda line: line[:2])
    rows = [",".join("" if value is None else str(value) for value in line) for line in lines]
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(directory / FILE, "\n".join([",".join(COLUMNS), *rows]) + "\n")


def read_per_puzzle(directory: Path) -> dict[str, np.ndarray]:
    """The columns of per_puzzle.csv; NaN where there is nothing.

    Raises:
        ValueError: there is no such file, or something else is in it.
    """
    file = directory / FILE
    lines: list[list[float]] = []
    for number, (*others, best) in csv_rows(file, COLUMNS):
        try:
            lines.append([*map(int, others), int(best) if best else np.nan])
        except ValueError:
            raise ValueError(f"{file}, line {number}: holds something else than whole numbers") from None
    return dict(zip(COLUMNS, np.array(lines, float).reshape(-1, len(COLUMNS)).T, strict=True))
