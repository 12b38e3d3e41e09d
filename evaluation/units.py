"""Evaluates a model in depth and breadth. All depths are read off the same trajectories.

The work is cut into units of whole puzzles. A trajectory's start is a function of (seed, puzzle, restart), counting
only puzzles that are evaluated; the noise in a unit is a function of (seed, unit). Sums are added in the order of the
units. So any number of processes reports the same numbers, in one go or with interruptions.

Shapes: N puzzles, B trajectories per puzzle, R rows at a time, S tokens.
"""

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from dataset.puzzles import Puzzles, evenly_spread
from evaluation.engine import Engine, Rows, TorchEngine
from evaluation.metrics import Tally
from evaluation.observations import Observation, concatenate
from evaluation.observers import Observer
from evaluation.scoring import summary, tally
from evaluation.settings import Settings
from evaluation.streaming import Stream
from models.core import Start
from models.reasoner import Reasoner
from runtime.distributed import World

UNITS = 1000
"""A large evaluation has this many units, or up to twice as many. In a small one each set of rows is a unit."""
FILLS = 16
"""A streaming unit has at least this many sets of rows: at its end the slowest trajectories run alone."""


class Plan(NamedTuple):
    """How the work is cut into units."""

    examples_N: np.ndarray
    per_unit: int  # puzzles
    rows: int  # trajectories at a time

    @staticmethod
    def of(settings: Settings, total: int, puzzles: int | None) -> "Plan":
        """Plans the evaluation of `puzzles` of `total` puzzles, evenly spread over the data (None: all)."""
        examples_N = evenly_spread(total, puzzles)
        rows = min(settings.rows, len(examples_N) * settings.breadth)
        needed = settings.agree or settings.breadth
        at_once = max(1, rows // needed)
        sets = max(FILLS if settings.halting else 1, len(examples_N) // at_once // UNITS)
        return Plan(examples_N, at_once * sets, rows)

    @property
    def units(self) -> range:
        """The numbers of all units."""
        return range(-(-len(self.examples_N) // self.per_unit))

    def first(self, unit: int) -> int:
        """The number of a unit's first puzzle among those evaluated."""
        return unit * self.per_unit

    def examples(self, unit: int) -> np.ndarray:
        """The examples of a unit's puzzles."""
        return self.examples_N[self.first(unit) : self.first(unit) + self.per_unit]


class UnitRun(NamedTuple):
    """A unit that was run, with its trajectories."""

    unit: int
    examples_N: np.ndarray
    kept_N: np.ndarray  # how many trajectories of each puzzle count
    by_depth: dict[int, Observation]  # these trajectories, puzzle by puzzle
    tallies: dict[int, Tally]  # by depth
    device_seconds: float


class Part(NamedTuple):
    """A unit's part of an evaluation: what is left of a UnitRun for the metrics, fit for the disk."""

    unit: int
    tallies: dict[int, Tally]  # by depth
    seconds: float
    device_seconds: float
    observed: Any = None  # what each observer took, by name

    def check(self) -> None:
        """Raises ValueError if logits were not finite: they would count as wrong answers."""
        for depth, part in self.tallies.items():
            if not math.isfinite(part.sums["all/lm_loss"][0]):
                raise ValueError(f"at depth {depth} logits are not finite: give less noise, or forward_dtype=float32")


class _Runner:
    """Runs units of an evaluation, one after the other."""

    def __init__(
        self, engine: Engine, plan: Plan, progress: Callable[[int], object], between: Callable[[], None]
    ) -> None:
        self.engine, self.plan, self.progress, self.between = engine, plan, progress, between
        self.settings = engine.settings

    def run(self, unit: int) -> UnitRun:
        """Runs all trajectories of a unit."""
        examples_N = self.plan.examples(unit)
        labels_NS = self.engine.data.rows(examples_N).labels.cpu().numpy()
        run = self._streaming if self.settings.halting else self._plain
        return run(unit, examples_N, labels_NS)

    def _plain(self, unit: int, examples_N: np.ndarray, labels_NS: np.ndarray) -> UnitRun:
        """Runs `rows` trajectories at a time; a puzzle's trajectories stand next to each other."""
        settings, rows, first = self.settings, self.plan.rows, self.plan.first(unit)
        N, B = len(examples_N), settings.breadth
        parts: list[dict[int, Observation]] = []
        for begin in range(0, N * B, rows):
            self.between()
            real = min(rows, N * B - begin)
            puzzle_R, restart_R = np.divmod(begin + np.arange(rows) % real, B)  # the same shape every time
            observed = self.engine.run(Rows(examples_N[puzzle_R], first + puzzle_R, restart_R), unit, begin)
            parts.append({depth: observation.rows(slice(real)) for depth, observation in observed.items()})
            self.progress(real)
        kept_N = np.full(N, B)
        by_depth = {depth: concatenate([part[depth] for part in parts]) for depth in settings.depths}
        tallies = {
            depth: tally(observation, labels_NS, kept_N, kept_N * depth, settings)
            for depth, observation in by_depth.items()
        }
        return UnitRun(unit, examples_N, kept_N, by_depth, tallies, self.engine.device_seconds())

    def _streaming(self, unit: int, examples_N: np.ndarray, labels_NS: np.ndarray) -> UnitRun:
        """Runs the trajectories through a pool of `rows` slots."""
        self.between()
        first, rows, depth = self.plan.first(unit), self.plan.rows, max(self.settings.depths)
        stream = Stream(self.engine.pool(unit, rows), rows, examples_N, first, self.settings)
        observation, kept_N, spent_N, capacity = stream.run(self.progress)
        part = tally(observation, labels_NS, kept_N, spent_N, self.settings)
        spent, counted = float(spent_N.sum()), float(observation.values["steps"].sum())
        part.sums["nfe/abandoned"] = (spent - counted, spent)
        part.sums["nfe/busy"] = (spent, capacity)
        return UnitRun(unit, examples_N, kept_N, {depth: observation}, {depth: part}, self.engine.device_seconds())


def unit_runs(
    engine: Engine,
    plan: Plan,
    units: Sequence[int],
    progress: bool = False,
    between: Callable[[], None] = lambda: None,
) -> Generator[UnitRun, None, None]:
    """Runs units and yields each. `between` is called now and then, and may raise."""
    amount = sum(len(plan.examples(unit)) for unit in units) * engine.settings.breadth
    with tqdm(total=amount, disable=not progress, unit="trajectory", unit_scale=True, dynamic_ncols=True) as bar:
        runner = _Runner(engine, plan, bar.update, between)
        for unit in units:
            yield runner.run(unit)


def run_units(
    engine: Engine,
    plan: Plan,
    units: Sequence[int],
    progress: bool = False,
    observers: Mapping[str, Observer] | None = None,
    between: Callable[[], None] = lambda: None,
) -> Generator[Part, None, None]:
    """Runs units as `unit_runs` does, shows them to the observers, and yields the part of each."""
    observers, began = observers or {}, time.perf_counter()
    for run in unit_runs(engine, plan, units, progress, between):
        for observer in observers.values():
            for depth, observation in run.by_depth.items():
                observer.observe(depth, np.repeat(run.examples_N, run.kept_N), observation)
        observed = {name: observer.take() for name, observer in observers.items()} or None
        yield Part(run.unit, run.tallies, time.perf_counter() - began, run.device_seconds, observed)
        began = time.perf_counter()


def metrics_by_depth(parts: Sequence[Part], puzzles: int, settings: Settings) -> dict[int, dict[str, float]]:
    """The metrics of an evaluation of `puzzles` puzzles, from the parts of all its units, in any order."""
    in_order = sorted(parts, key=lambda part: part.unit)
    return {depth: summary([part.tallies[depth] for part in in_order], puzzles, settings) for depth in settings.depths}


def evaluate(
    model: Reasoner,
    data: Puzzles,
    settings: Settings,
    world: World,
    puzzles: int | None = None,
    between: Callable[[], None] = lambda: None,
    start: Start | None = None,
) -> dict[int, dict[str, float]]:
    """Evaluates a model in all processes together, and returns its metrics by depth.

    Args:
        model: the model; its mode is the same afterwards.
        data: the puzzles.
        settings: how to evaluate.
        world: the processes that share the work.
        puzzles: how many puzzles to evaluate, evenly spread over the data (None: all).
        between: called between batches, in streaming between units; may raise to end the evaluation.
        start: how trajectories start; by default as in training.

    Returns:
        For each depth, metrics under the released programs' names (`all/...`, and for breadth above 1
        `different_init/...`, `majority_vote/...`, `convergence_top_k/...`), with `all/residual`, `selection/...`,
        `nfe/...`, and `puzzles`, the number evaluated.
    """
    plan = Plan.of(settings, len(data), puzzles)
    mine = plan.units[world.rank :: world.size]
    engine = TorchEngine(model, start or model.core.start, data, settings)
    parts = list(run_units(engine, plan, mine, between=between))
    everyone = [part for parts in world.gather_objects(parts) for part in parts]
    return metrics_by_depth(everyone, len(plan.examples_N), settings)
