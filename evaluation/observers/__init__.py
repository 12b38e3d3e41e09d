"""Observers of an evaluation: each sees every trajectory, and adds metrics, columns or files of its own.

To add one, write a file here with a class like the others, and a line in OBSERVERS. Nothing else needs to change.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from config.schema import EvalConfig
from dataset.puzzles import Puzzles
from evaluation.observations import Findings, Observation
from evaluation.observers.arc import VotesByDepth
from evaluation.observers.maze import ShortestPaths
from evaluation.observers.per_puzzle import PerPuzzle


class Observer(Protocol):
    """Sees every trajectory of an evaluation, and adds metrics, columns or files of its own.

    Each process makes one and shows it the trajectories of a unit of work (`observe`). Then it asks for what there is
    to keep (`take`), which goes to disk. When all units are done, one process makes metrics and files of it (`finish`).
    """

    columns: ClassVar[Mapping[str, str]]
    """Metrics for the table on the screen, by heading."""

    def __init__(self, data: Path, puzzles: Puzzles) -> None:
        """`data` is the folder of the data set, `puzzles` the split that is evaluated."""

    @staticmethod
    def applies(config: EvalConfig, data: Path, puzzles: Puzzles) -> bool:
        """Whether this evaluation wants it."""
        ...

    def observe(self, depth: int, examples_R: np.ndarray, observation: Observation) -> None:
        """Sees all trajectories of some puzzles at a depth. Trajectory r ran on example `examples_R[r]`."""
        ...

    def take(self) -> Any:
        """What there is to keep of the trajectories since the last call, fit for JSON."""
        ...

    @staticmethod
    def finish(taken: Sequence[Any], data: Path) -> Findings:
        """Metrics and files, from what `take` returned for each unit, in the order of the units."""
        ...


OBSERVERS: dict[str, type[Observer]] = {"arc": VotesByDepth, "maze": ShortestPaths, "per_puzzle": PerPuzzle}
"""All observers. Units on disk keep what an observer took under its name."""


def observers_for(config: EvalConfig, data: Path, puzzles: Puzzles) -> dict[str, Observer]:
    """The observers that an evaluation wants, by name."""
    return {
        name: observer(data, puzzles) for name, observer in OBSERVERS.items() if observer.applies(config, data, puzzles)
    }
