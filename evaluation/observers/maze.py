"""Mazes: the share of answers that are a shortest path, where the data's answer is one of several.

Shapes: R rows, each a trajectory; S tokens of a maze.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from config.schema import EvalConfig
from dataset.maze import are_mazes, distances, is_valid_answer
from dataset.puzzles import Puzzles
from evaluation.observations import Findings, Observation

METRIC = "maze/shortest_path"
KEEP = 2**14
"""Distances of this many mazes are kept, so that all depths and trajectories share one search."""

Counts = list[tuple[int, int, int]]
"""(depth, answers that are shortest paths, all answers) for every depth; fit for JSON."""


class ShortestPaths:
    """Counts the answers that are shortest paths, at every depth (observers.Observer)."""

    columns: ClassVar[Mapping[str, str]] = {"shortest path": METRIC}

    def __init__(self, data: Path, puzzles: Puzzles) -> None:
        self._split = puzzles.split
        self._distances = lru_cache(KEEP)(lambda example: distances(self._split.inputs[example]))
        self._right: Counter[int] = Counter()
        self._answers: Counter[int] = Counter()

    @staticmethod
    def applies(config: EvalConfig, data: Path, puzzles: Puzzles) -> bool:
        """Whether all questions are mazes, and the first answer is a shortest path."""
        inputs_NS, labels_NS = puzzles.split.inputs, puzzles.split.labels
        mazes = are_mazes(inputs_NS, puzzles.split.metadata.vocab_size)
        return mazes and is_valid_answer(inputs_NS[0], labels_NS[0])

    def observe(self, depth: int, examples_R: np.ndarray, observation: Observation) -> None:
        """Counts the answers to these examples."""
        for example, answer_S in zip(examples_R.tolist(), observation.predictions_RS, strict=True):
            self._right[depth] += is_valid_answer(self._split.inputs[example], answer_S, self._distances(example))
        self._answers[depth] += len(examples_R)

    def take(self) -> Counts:
        """The counts since the last call."""
        counts = [(depth, self._right[depth], answers) for depth, answers in self._answers.items()]
        self._right.clear()
        self._answers.clear()
        return counts

    @staticmethod
    def finish(taken: Sequence[Counts], data: Path) -> Findings:
        """The share by depth; the order of the counts makes no difference."""
        right: Counter[int] = Counter()
        total: Counter[int] = Counter()
        for counts in taken:
            for depth, right_answers, answers in counts:
                right[depth] += right_answers
                total[depth] += answers
        return Findings({depth: {METRIC: right[depth] / total[depth]} for depth in sorted(total) if total[depth]}, {})
