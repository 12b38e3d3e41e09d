"""Evaluate a model in depth and breadth: all depths are read off the same trajectories.

The work is cut into units of whole puzzles. A trajectory's start is a function of (seed, puzzle, restart), puzzles
counted among those evaluated, the noise in a unit one of (seed, unit), and sums are added in the order of units, so
that any number of processes, in one go or with interruptions, reports the same numbers.

Shapes: N puzzles, B trajectories a puzzle, R rows at a time, S tokens.
"""

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from tqdm import tqdm

from dataset.puzzles import Puzzles, evenly_spread
from evaluation.metrics import Tally
from evaluation.observations import Clock, Observation, concatenate, observe
from evaluation.scoring import summary, tally
from evaluation.settings import Settings
from evaluation.streaming import Stream
from evaluation.trajectory import Starts, evaluating, seed, trajectory
from models.core import Start
from models.reasoner import Reasoner
from runtime.distributed import World

UNITS = 1000
"""A large evaluation has so many units, or up to twice as many; of a small one each set of rows is a unit."""
FILLS = 16
"""A streaming unit has at least so many sets of rows, since at its end the slowest trajectories run alone."""


class Outcome(NamedTuple):
    """What came of a unit, by depth."""

    kept_N: np.ndarray  # how many trajectories of each puzzle count
    seen: dict[int, Observation]  # those trajectories, puzzle by puzzle
    tallies: dict[int, Tally]


class Plan(NamedTuple):
    """How the work is cut."""

    examples_N: np.ndarray
    per_unit: int  # puzzles
    rows: int  # trajectories at a time

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


def plan(settings: Settings, total: int, puzzles: int | None) -> Plan:
    """Cuts up the evaluation of `puzzles` of `total` puzzles (None: all), evenly spread over the data."""
    examples_N = evenly_spread(total, puzzles)
    rows = min(settings.rows, len(examples_N) * settings.breadth)
    needed = settings.agree or settings.breadth
    at_once = max(1, rows // needed)
    sets = max(FILLS if settings.halting else 1, len(examples_N) // at_once // UNITS)
    return Plan(examples_N, at_once * sets, rows)


class Observer(Protocol):
    """Is shown every trajectory, and asked after each unit what it has to say."""

    def observe(self, depth: int, examples_R: np.ndarray, seen: Observation) -> None:
        """Trajectories of whole puzzles at that depth, and the example that each ran on."""
        ...

    def take(self) -> Any:
        """What was observed since the last time, fit for JSON."""
        ...


class Done(NamedTuple):
    """A unit that is done."""

    unit: int
    tallies: dict[int, Tally]  # by depth
    seconds: float
    device_seconds: float
    observed: Any = None  # by observer, what it had to say

    def check(self) -> None:
        """Raises ValueError where logits were not finite, which would count as wrong answers."""
        for depth, found in self.tallies.items():
            if not math.isfinite(found.sums["all/lm_loss"][0]):
                raise ValueError(f"at depth {depth} logits are not finite: give less noise, or forward_dtype=float32")


def _run_rows(
    model: Reasoner, data: Puzzles, examples_R: np.ndarray, latents: tuple[torch.Tensor, ...], settings: Settings
) -> dict[int, Observation]:
    """One set of trajectories to the largest depth, looked at at every wanted depth."""
    seen: dict[int, Observation] = {}
    iterations = trajectory(
        model, data.rows(examples_R), max(settings.depths), settings.perturb_std, latents, settings.window
    )
    for depth, iteration in enumerate(iterations, start=1):
        if depth in settings.depths:
            seen[depth] = observe(*iteration, settings)
    return seen


class _Runner:
    """Runs units of an evaluation, one after the other."""

    def __init__(
        self,
        model: Reasoner,
        start: Start,
        data: Puzzles,
        settings: Settings,
        cut: Plan,
        progress: Callable[[int], object],
        between: Callable[[], None] | None,
    ) -> None:
        self.model, self.data, self.cut = model, data, cut
        self.settings = replace(settings, rows=cut.rows)
        self.progress, self.between = progress, between or (lambda: None)
        self.starts = Starts(start, settings.seed)
        self.clock = Clock(data.device)

    def run(self, unit: int) -> Outcome:
        """All trajectories of a unit."""
        examples_N = self.cut.examples(unit)
        labels_NS = self.data.rows(examples_N).labels.cpu().numpy()
        run = self._streaming if self.settings.halting else self._plain
        return run(unit, examples_N, labels_NS)

    def _plain(self, unit: int, examples_N: np.ndarray, labels_NS: np.ndarray) -> Outcome:
        """`rows` trajectories at a time, a puzzle's next to each other."""
        settings, rows, first = self.settings, self.cut.rows, self.cut.first(unit)
        N, B = len(examples_N), settings.breadth
        parts: list[dict[int, Observation]] = []
        for begin in range(0, N * B, rows):
            self.between()
            real = min(rows, N * B - begin)
            puzzle_R, restart_R = np.divmod(begin + np.arange(rows) % real, B)  # the same shape every time
            with self.clock:
                latents = self.starts(first + puzzle_R, restart_R, self.data.device)
                seed(settings.seed, 1, unit, begin)
                seen = _run_rows(self.model, self.data, examples_N[puzzle_R], latents, settings)
            parts.append({depth: at_depth.rows(slice(real)) for depth, at_depth in seen.items()})
            self.progress(real)
        kept_N = np.full(N, B)
        seen = {depth: concatenate([part[depth] for part in parts]) for depth in settings.depths}
        return Outcome(
            kept_N, seen, {depth: tally(seen[depth], labels_NS, kept_N, kept_N * depth, settings) for depth in seen}
        )

    def _streaming(self, unit: int, examples_N: np.ndarray, labels_NS: np.ndarray) -> Outcome:
        """Through a pool of `rows` slots."""
        self.between()
        seed(self.settings.seed, 1, unit, 0)
        first = self.cut.first(unit)
        stream = Stream(self.model, self.data, examples_N, first, self.starts, self.settings)
        seen, kept_N, spent_N, capacity = stream.run(self.clock, self.progress)
        found = tally(seen, labels_NS, kept_N, spent_N, self.settings)
        spent, counted = float(spent_N.sum()), float(seen.values["steps"].sum())
        found.sums["nfe/abandoned"] = (spent - counted, spent)
        found.sums["nfe/busy"] = (spent, capacity)
        depth = max(self.settings.depths)
        return Outcome(kept_N, {depth: seen}, {depth: found})


def run_units(
    model: Reasoner,
    start: Start,
    data: Puzzles,
    settings: Settings,
    cut: Plan,
    units: Sequence[int],
    progress: bool = False,
    observers: Mapping[str, Observer] | None = None,
    between: Callable[[], None] | None = None,
) -> Generator[Done, None, None]:
    """Runs units and yields each when it is done.

    `start` says how trajectories start. `between` is called now and then, and may raise to end the evaluation.
    """
    amount = sum(len(cut.examples(unit)) for unit in units) * settings.breadth
    with (
        evaluating(model),
        tqdm(total=amount, disable=not progress, unit="trajectory", unit_scale=True, dynamic_ncols=True) as bar,
    ):
        runner = _Runner(model, start, data, settings, cut, bar.update, between)
        for unit in units:
            began, before = time.perf_counter(), runner.clock.read()
            outcome = runner.run(unit)
            device_seconds = runner.clock.read() - before
            for observer in (observers or {}).values():
                for depth, seen in outcome.seen.items():
                    observer.observe(depth, np.repeat(cut.examples(unit), outcome.kept_N), seen)
            observed = {name: observer.take() for name, observer in (observers or {}).items()} or None
            yield Done(unit, outcome.tallies, time.perf_counter() - began, device_seconds, observed)


def metrics_by_depth(done: Sequence[Done], puzzles: int, settings: Settings) -> dict[int, dict[str, float]]:
    """The metrics of an evaluation whose units are all done."""
    in_order = sorted(done, key=lambda part: part.unit)
    return {depth: summary([part.tallies[depth] for part in in_order], puzzles, settings) for depth in settings.depths}


def evaluate(
    model: Reasoner,
    data: Puzzles,
    settings: Settings,
    world: World,
    puzzles: int | None = None,
    between: Callable[[], None] | None = None,
    start: Start | None = None,
) -> dict[int, dict[str, float]]:
    """Metrics by depth. `puzzles` limits the evaluation to so many, evenly spread over the data.

    `between` is called between batches, in streaming between units, and may raise to end the evaluation.
    `start` is how trajectories start; by default as in training.

    Returns for each depth the released programs' names (`all/...`, and for breadth > 1 `different_init/...`,
    `majority_vote/...`, `convergence_top_k/...`), `all/residual`, `selection/...`, `nfe/...`, and `puzzles`, the
    number evaluated.
    """
    cut = plan(settings, len(data), puzzles)
    mine = cut.units[world.rank :: world.size]
    done = list(run_units(model, start or model.core.start, data, settings, cut, mine, between=between))
    everyone = [part for parts in world.gather_objects(done) for part in parts]
    return metrics_by_depth(everyone, len(cut.examples_N), settings)
