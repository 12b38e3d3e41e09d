"""The numbers in the pictures, from a sample or from a run's metrics.jsonl.

Shapes: N puzzles, B starts per puzzle, D iterations, S tokens; X is any number of things.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evaluation.metrics import best_converged
from runtime.run_log import read_metrics

if TYPE_CHECKING:
    from evaluation.drawing.sample import Sample

FEWEST = 10
"""A bin with fewer answers has no accuracy worth drawing."""
FLOOR = 1e-7
"""Smaller residuals are drawn here: they are rounding errors, and a log scale has no 0."""


def powers(last: int) -> list[int]:
    """1, 2, 4, ... and `last` itself."""
    return sorted({2**i for i in range(last.bit_length())} | {last})


def accuracy(sample: "Sample", breadth: int) -> np.ndarray:
    """Exact accuracy [D] of the best converged of `breadth` starts, averaged over disjoint groups of starts."""
    groups = sample.breadth // breadth
    used = slice(groups * breadth)
    scores_Xb = sample.scores_DNB[:, :, used].reshape(-1, breadth)
    right_Xb = sample.right_DNB[:, :, used].reshape(-1, breadth)
    chosen_X = np.take_along_axis(right_Xb, best_converged(scores_Xb, 1), axis=1)
    return chosen_X.reshape(sample.depth, -1).mean(1)


def accuracies(sample: "Sample") -> dict[int, np.ndarray]:
    """`accuracy` [D] by breadth."""
    return {breadth: accuracy(sample, breadth) for breadth in powers(sample.breadth)}


class Band(NamedTuple):
    """Quantiles over many trajectories after each iteration, each [D]."""

    low: np.ndarray  # a tenth of the values is below
    median: np.ndarray
    high: np.ndarray  # a tenth of the values is above
    trajectories: int


def residual_bands(sample: "Sample") -> dict[str, Band]:
    """Residuals from the second iteration on, [D - 1]: "solved" trajectories end at the right answer, others do not."""
    residual_DX = sample.residual_DNB[1:].reshape(sample.depth - 1, -1).clip(FLOOR)
    solved_X = sample.right_DNB[-1].reshape(-1)
    bands = {}
    for name, rows in (("solved", solved_X), ("unsolved", ~solved_X)):
        if rows.any():
            low, median, high = np.quantile(residual_DX[:, rows], (0.1, 0.5, 0.9), axis=1)
            bands[name] = Band(low, median, high, int(rows.sum()))
    return bands


class Bins(NamedTuple):
    """The answers in each bin of residual."""

    edges: np.ndarray  # [bins + 1]
    right: np.ndarray  # [bins]: how many answers are right
    answers: np.ndarray  # [bins]: how many answers there are

    @property
    def accuracy(self) -> np.ndarray:
        """The share of right answers [bins]; NaN for a bin with too few answers."""
        return np.where(self.answers >= FEWEST, self.right / np.maximum(self.answers, 1), np.nan)

    @property
    def error(self) -> np.ndarray:
        """The binomial standard error of the accuracy [bins]."""
        p = self.accuracy
        return np.sqrt(p * (1 - p) / np.maximum(self.answers, 1))


def by_residual(sample: "Sample", bins: int = 10) -> Bins:
    """All answers after 2, 4, 8, ... iterations, in bins of residual with equal widths on a log scale."""
    depths = np.array([depth - 1 for depth in powers(sample.depth) if depth > 1])
    residual_X = sample.residual_DNB[depths].reshape(-1).clip(FLOOR)
    right_X = sample.right_DNB[depths].reshape(-1)
    low, high = residual_X.min(), residual_X.max()
    edges = np.geomspace(low, max(high, 1.01 * low), bins + 1)
    place_X = np.clip(np.searchsorted(edges, residual_X, side="right") - 1, 0, bins - 1)
    right = np.bincount(place_X, weights=right_X, minlength=bins)
    return Bins(edges, right, np.bincount(place_X, minlength=bins))


class Group(NamedTuple):
    """Puzzles of about the same difficulty, from `low` to `high`."""

    low: float
    high: float
    halting: np.ndarray  # for each trajectory the first iteration that says "right"; D + 1: none does


def halting_steps(q_halt_DNB: np.ndarray) -> np.ndarray:
    """The first iteration, counted from 1, with q_halt above 0 [N, B]; D + 1 if none has."""
    sure_DNB = q_halt_DNB > 0
    return np.where(sure_DNB.any(0), sure_DNB.argmax(0), len(sure_DNB)) + 1


def halting_by_difficulty(sample: "Sample") -> list[Group]:
    """Halting steps of up to three groups of puzzles, easiest first. Sizes are as equal as difficulties allow."""
    difficulty_N = sample.difficulty_N
    steps_NB = halting_steps(sample.q_halt_DNB)
    values = np.unique(difficulty_N)
    lowest = values if len(values) <= 3 else np.unique(np.quantile(difficulty_N, (0, 1 / 3, 2 / 3)).round())
    group_N = np.searchsorted(lowest, difficulty_N, side="right")
    members = [np.flatnonzero(group_N == group) for group in np.unique(group_N)]
    return [Group(difficulty_N[m].min(), difficulty_N[m].max(), steps_NB[m].reshape(-1)) for m in members]


Series = dict[str, tuple[np.ndarray, np.ndarray]]
"""name -> (steps, values)"""


def training(file: Path) -> Series:
    """The numbers in a metrics.jsonl."""
    points: dict[str, list[tuple[int, float]]] = {}
    for line in read_metrics(file):
        for name, value in line.items():
            if name != "step" and value is not None:
                points.setdefault(name, []).append((line["step"], value))
    return {name: (np.array([s for s, _ in some]), np.array([v for _, v in some])) for name, some in points.items()}


def smooth(steps: np.ndarray, values: np.ndarray, windows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Means over `windows` neighbouring stretches, or the values themselves if there are few."""
    if len(steps) < 2 * windows:
        return steps, values
    parts = np.array_split(np.arange(len(steps)), windows)
    return np.array([steps[p].mean() for p in parts]), np.array([values[p].mean() for p in parts])
