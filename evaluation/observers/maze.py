"""Maze evaluation: which answers are some shortest path, where the data's answer is one of several.

Shapes: R rows, each a trajectory; S tokens of a maze.
"""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from dataset.boards import Maze, kind_of
from dataset.layout import Split
from dataset.maze import distances, is_valid_answer
from evaluation.observations import Observation

KEEP = 2**14
"""Mazes whose distances are kept, so that depths and trajectories share one search."""

Counts = list[tuple[int, int, int]]
"""(depth, answers that are shortest paths, all answers) for every depth; fit for JSON."""


def holds_mazes(split: Split) -> bool:
    """Whether a data set's questions are all mazes, and its first answer is a shortest path through the first."""
    kind = kind_of(split.inputs, split.labels, split.metadata.vocab_size)
    return isinstance(kind, Maze) and kind.fault(split.inputs[0], split.labels[0]) is None


class ShortestPaths:
    """Counts at every depth the answers that are shortest paths: an observer of an evaluation."""

    def __init__(self, split: Split) -> None:
        """For a split that `holds_mazes`."""
        self._split = split
        self._distances = lru_cache(KEEP)(lambda example: distances(split.inputs[example]))
        self._right: Counter[int] = Counter()
        self._answers: Counter[int] = Counter()

    def observe(self, depth: int, examples_R: np.ndarray, seen: Observation) -> None:
        """Counts the answers of the trajectories that ran on these examples."""
        rows = zip(examples_R.tolist(), seen.predictions_RS, strict=True)
        self._right[depth] += sum(
            is_valid_answer(self._split.inputs[example], answer_S, self._distances(example))
            for example, answer_S in rows
        )
        self._answers[depth] += len(examples_R)

    def take(self) -> Counts:
        """What was counted since the last time."""
        counts = [(depth, self._right[depth], answers) for depth, answers in self._answers.items()]
        self._right.clear()
        self._answers.clear()
        return counts


def shares(taken: Iterable[Counts]) -> dict[int, dict[str, float]]:
    """By depth, the share of the answers that are some shortest path, from all that `take` returned, in any order."""
    right: Counter[int] = Counter()
    answers: Counter[int] = Counter()
    for counts in taken:
        for depth, right_here, answers_here in counts:
            right[depth] += right_here
            answers[depth] += answers_here
    return {depth: {"maze/shortest_path": right[depth] / answers[depth]} for depth in sorted(answers) if answers[depth]}
