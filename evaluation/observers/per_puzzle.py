"""per_puzzle.csv: what became of every puzzle, a line for each depth and puzzle.

Shapes: R rows, each a trajectory; M puzzles with n trajectories each.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from config.schema import EvalConfig
from dataset.csv_puzzles import csv_rows
from dataset.puzzles import Puzzles
from evaluation.observations import Findings, Observation
from evaluation.scoring import grouped_by_count
from evaluation.selection import select

COLUMNS = ("depth", "example", "trajectories", "right", "iterations", "majority", "best_converged")
"""`example` is the puzzle's index in the split. `trajectories` is how many of them count, `right` how many of these are
exactly right, `iterations` how many these made together. The last two are 1 if the answer that the rule selects is
right and 0 if not. `best_converged` is empty if no trajectory has a score. What needs the answer is empty if that is
not known."""

COMPARED = ("right", "majority")
"""Columns that are empty if the answer is not known."""

FILE = "per_puzzle.csv"

Line = list[int | None]
"""The values of COLUMNS; fit for JSON."""


class PerPuzzle:
    """Notes what became of each puzzle, at every depth (observers.Observer)."""

    columns: ClassVar[Mapping[str, str]] = {}

    def __init__(self, data: Path, puzzles: Puzzles) -> None:
        self._lines: list[Line] = []
        self._unanswered_E = puzzles.unanswered_E

    @staticmethod
    def applies(config: EvalConfig, data: Path, puzzles: Puzzles) -> bool:
        """Whether the configuration asks for it."""
        return config.per_puzzle

    def observe(self, depth: int, examples_R: np.ndarray, observation: Observation) -> None:
        """Notes the outcome of these puzzles. All trajectories of a puzzle stand next to each other."""
        first_N = np.flatnonzero(np.diff(examples_R, prepend=-1))
        kept_N = np.diff(first_N, append=len(examples_R))
        for puzzles_M, rows_Mn, candidates in grouped_by_count(observation, kept_N):
            right_Mn = observation.values["exact_accuracy"][rows_Mn].astype(int)
            majority_M, best_M = (
                np.take_along_axis(right_Mn, select(rule, candidates)[:, None], axis=1)[:, 0].astype(object)
                for rule in ("majority", "convergence")
            )
            right_M = right_Mn.sum(1).astype(object)
            best_M[np.isnan(candidates.scores_NB).all(1)] = None
            for column_M in (right_M, majority_M, best_M):
                column_M[self._unanswered_E[examples_R[first_N[puzzles_M]]]] = None
            columns = (
                np.full(len(puzzles_M), depth),
                examples_R[first_N[puzzles_M]],
                kept_N[puzzles_M],
                right_M,
                candidates.steps_NB.sum(1).astype(int),
                majority_M,
                best_M,
            )
            self._lines += map(list, zip(*(column.tolist() for column in columns), strict=True))

    def take(self) -> list[Line]:
        """The lines since the last call."""
        taken, self._lines = self._lines, []
        return taken

    @staticmethod
    def finish(taken: Sequence[list[Line]], data: Path) -> Findings:
        """The file, sorted by depth and example."""
        lines = sorted((line for lines in taken for line in lines), key=lambda line: line[:2])
        rows = [",".join("" if value is None else str(value) for value in line) for line in lines]
        return Findings({}, {FILE: "\n".join([",".join(COLUMNS), *rows]) + "\n"})


def read_per_puzzle(directory: Path) -> dict[str, np.ndarray]:
    """The columns of per_puzzle.csv; NaN where a value is empty.

    Raises:
        ValueError: the file is missing, or holds something else.
    """
    file = directory / FILE
    lines: list[list[float]] = []
    for number, fields in csv_rows(file, COLUMNS):
        known = any(fields[COLUMNS.index(name)] for name in COMPARED)
        may_be_empty = ("best_converged", *(() if known else COMPARED))
        try:
            values = zip(COLUMNS, fields, strict=True)
            lines.append([float(int(field)) if field or name not in may_be_empty else np.nan for name, field in values])
        except (ValueError, OverflowError):
            raise ValueError(f"{file}, line {number}: holds something else than whole numbers") from None
    return dict(zip(COLUMNS, np.array(lines, float).reshape(-1, len(COLUMNS)).T, strict=True))
