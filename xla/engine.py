"""The engine of an evaluation in XLA: `evaluation.engine.Engine`, on all devices of this process together.

Shapes: R rows, each a trajectory.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import jax
import numpy as np
import torch
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from config.load import load_eval
from dataset.puzzles import Batch, Puzzles
from evaluation.engine import Devices, Rows
from evaluation.observations import Clock, Observation
from evaluation.settings import Settings, settings_for
from evaluation.units import Plan, metrics_by_depth, run_units
from models.core import RandomInit
from models.hrm_sru import RandomCells
from models.losses import answer_metrics
from runtime.load import Evaluable, build_for_evaluation, load_model
from xla.hosts import devices_of
from xla.layers import Static, require_support
from xla.reasoner import parameters
from xla.trajectory import begin, refill, trajectories


class Sharded:
    """A mesh over all devices. `replicate` puts a tree of arrays on each, `spread` an equal part of the rows.

    Rows never meet. So a program runs on each device's own rows, and devices exchange nothing. `take(tree, index)`
    spreads some of the rows anew.
    """

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        self._mesh = Mesh(np.array(devices), ("rows",))
        copied, rows = NamedSharding(self._mesh, P()), NamedSharding(self._mesh, P("rows"))
        self.replicate, self.spread = partial(jax.device_put, device=copied), partial(jax.device_put, device=rows)
        self.take = jax.jit(lambda tree, index: jax.tree.map(lambda array: array[index], tree), out_shardings=rows)

    def padded(self, index: np.ndarray) -> np.ndarray:
        """Numbers of rows, with as many more as make them divisible by the devices."""
        return np.resize(index, -(-len(index) // self._mesh.size) * self._mesh.size)

    def compiled(self, program: Callable[..., Any], donate: tuple[int, ...] = ()) -> Any:
        """A jit of program(parameters, *trees of arrays [R, ...]) on all devices. It may write over `donate`."""

        def spread(parameters: Any, *rows: Any) -> Any:
            inputs, outputs = (P(), *[P("rows")] * len(rows)), P("rows")
            each: Any = jax.shard_map(program, mesh=self._mesh, in_specs=inputs, out_specs=outputs, check_vma=False)
            return each(parameters, *rows)

        return jax.jit(spread, donate_argnums=donate)


class Evaluator:
    """Runs trajectories of a model in XLA. `Evaluator.load` takes what evaluate.py takes."""

    def __init__(
        self, evaluable: Evaluable, data: Puzzles, settings: Settings, devices: Sequence[jax.Device] | None = None
    ) -> None:
        """On these devices (None: all of this process). Raises ValueError if XLA lacks the model or its precision."""
        arch, start, self.data, self.settings = evaluable.arch, evaluable.start, data, settings
        require_support(arch)
        devices = list(devices or jax.local_devices())
        platform = {"gpu": "cuda"}.get(devices[0].platform, devices[0].platform)
        self.devices = Devices(platform, f"{len(devices)} x {devices[0].device_kind}")
        start_std = start.stds[0] if isinstance(start, RandomInit) else None  # EqR's own stds are in its arch
        start_std = start.std if isinstance(start, RandomCells) else start_std
        static = Static(arch, data.shape.seq_len, platform, settings, start_std)
        self.clock, self.sharded = Clock(data.device), Sharded(devices)
        self.parameters = self.sharded.replicate(parameters(evaluable.model.state_dict(), static))
        self.program, self.begin, self.step = (
            self.sharded.compiled(lambda p, *rows, part=part: part(p, static, *rows), donate)
            for part, donate in ((trajectories, ()), (begin, ()), (refill, (1,)))
        )

    def puzzles(self, examples_R: np.ndarray) -> Batch:
        """The given examples, as arrays on the host."""
        return Batch(*(cast(Any, tensor.numpy()) for tensor in self.data.rows(examples_R)))

    def observation(self, measured: Any, labels_RS: Any) -> Observation:
        """What was measured of rows with these labels, as all engines give it."""
        named = {name: np.asarray(value) for name, value in measured.items() if name != "halted"}
        scores_R, answers = named.pop("score"), [named.pop(name) for name in ("predictions", "q_halt", "lm_loss")]
        predictions, q_halt, lm_loss, labels = (torch.tensor(array) for array in (*answers, labels_RS))
        values: Any = answer_metrics(predictions, q_halt, lm_loss, labels, self.settings.learned_halting) | named
        values = {name: np.asarray(value, float) for name, value in values.items()}
        return Observation(values, answers[0], answers[1].astype(float), scores_R.astype(float))

    def run(self, rows: Rows, unit: int, begin: int) -> dict[int, Observation]:
        examples_R, *numbers = (self.sharded.padded(np.asarray(numbers, np.int32)) for numbers in rows)
        puzzle, by_depth = self.puzzles(examples_R), {}
        with self.clock:
            measured = jax.device_get(self.program(self.parameters, *self.sharded.spread((puzzle, *numbers))))
        for i, depth in enumerate(self.settings.depths):
            at_depth = self.observation({name: value[:, i] for name, value in measured.items()}, puzzle.labels)
            by_depth[depth] = at_depth.rows(slice(len(rows.examples_R)))
        if 1 in by_depth:
            del by_depth[1].values["residual"]
        return by_depth

    def pool(self, unit: int, size: int) -> "XLAPool":
        return XLAPool(self, size)

    def device_seconds(self) -> float:
        return self.clock.lap()

    def evaluate(self, puzzles: int | None = None) -> dict[int, dict[str, float]]:
        """The metrics by depth, of so many puzzles evenly spread over the data (None: all)."""
        plan = Plan.of(self.settings, len(self.data), puzzles)
        return metrics_by_depth(list(run_units(self, plan, plan.units)), len(plan.examples_N), self.settings)

    @staticmethod
    def load(*words: str) -> "Evaluator":
        """An evaluator for `checkpoint=FILE key=value ...`. Raises ValueError, in one sentence, for a mistake."""
        config, cpu = load_eval([*words, "engine=xla"]), torch.device("cpu")
        loaded = load_model(config.checkpoint, config.ema)
        data = Puzzles(config.dataset_data_path or loaded.data_path, config.split, cpu)
        evaluable = build_for_evaluation(loaded, config, data.shape, cpu)
        return Evaluator(evaluable, data, settings_for(config, evaluable.arch), devices_of(config.device))


class XLAPool:
    """`evaluation.streaming.Pool` in XLA. On many devices it may have more slots than it was asked for."""

    def __init__(self, engine: Evaluator, size: int) -> None:
        self._engine, self._size = engine, size
        examples_R = engine.sharded.padded(np.zeros(size, np.int32))
        self._fill: Any = (examples_R > 0, engine.puzzles(examples_R), examples_R.copy(), examples_R.copy())
        state = engine.begin(engine.parameters, *engine.sharded.spread(self._fill[1:]))
        self._state = state._replace(halted=~state.halted)
        self._measured = {"halted": self._state.halted, "steps": state.steps}

    def fill(self, rows: np.ndarray, examples_R: np.ndarray, puzzles_R: np.ndarray, restarts_R: np.ndarray) -> None:
        new = (True, self._engine.puzzles(examples_R), puzzles_R, restarts_R)
        for array, values in zip(jax.tree.leaves(self._fill), jax.tree.leaves(new), strict=True):
            array[rows] = values

    def advance(self) -> None:
        engine, fill = self._engine, self._engine.sharded.spread(self._fill)
        with engine.clock:
            self._state, self._measured = jax.block_until_ready(engine.step(engine.parameters, self._state, *fill))
        self._fill[0][:] = False

    def halted_and_steps(self) -> np.ndarray:
        return np.stack([np.asarray(self._measured[name])[: self._size].astype(int) for name in ("halted", "steps")])

    def look(self, rows: np.ndarray) -> Observation:
        return self._engine.observation(self._measured, self._fill[1].labels).rows(rows)

    def keep(self, rows: np.ndarray) -> None:
        self._size, rows = len(rows), self._engine.sharded.padded(rows)
        self._state = self._engine.sharded.take(self._state, rows)
        self._fill = jax.tree.map(lambda array: array[rows], self._fill)
