"""The engine of an evaluation in XLA: `evaluation.engine.Engine`, on all devices of this process together."""

from collections.abc import Sequence
from functools import partial

import jax
import numpy as np
import torch

from config.load import load_eval
from dataset.puzzles import Puzzles
from evaluation.engine import Devices, Rows
from evaluation.observations import Clock, Observation
from evaluation.settings import Settings, settings_for
from evaluation.streaming import Pool
from evaluation.units import Plan, metrics_by_depth, run_units
from models.core import RandomInit, Start
from models.hrm_sru import RandomCells
from runtime.load import Evaluable, build_for_evaluation, load_model
from xla import slots
from xla.layers import Static
from xla.reasoner import parameters
from xla.sharding import AT_DEPTHS, Sharded
from xla.trajectory import Program, observation, puzzle_rows, trajectories


class Evaluator:
    """Runs trajectories of a model in XLA. `Evaluator.load` takes what evaluate.py takes."""

    def __init__(
        self, evaluable: Evaluable, data: Puzzles, settings: Settings, devices: Sequence[jax.Device] | None = None
    ) -> None:
        """An engine for a model that `build_for_evaluation` has built, on these devices (None: all of this process).

        Raises:
            ValueError: XLA cannot compute the model in its precision.
        """
        arch, self.data, self.settings = evaluable.arch, data, settings
        if arch.forward_dtype == "float64":
            raise ValueError("engine=xla computes in bfloat16, float16 or float32, not in forward_dtype=float64")
        devices = list(devices or jax.local_devices())
        platform = {"gpu": "cuda"}.get(devices[0].platform, devices[0].platform)
        self.devices = Devices(platform, f"{len(devices)} x {devices[0].device_kind}")
        static = Static(arch, data.shape.seq_len, platform)
        program = Program(static, settings, _random_std(evaluable.start))
        self._clock, self.sharded = Clock(data.device), Sharded(devices)
        self.parameters = self.sharded.replicate(parameters(evaluable.model.state_dict(), static))
        compiled = self.sharded.compiled
        self.program = compiled(lambda p, *rows: trajectories(p, program, *rows), outputs=AT_DEPTHS)
        self._empty = compiled(lambda p, fill: slots.empty(p, program, fill))
        self._step = compiled(lambda p, *rows: slots.refill_and_advance(p, program, *rows), donate=(1,))

    def run(self, rows: Rows, unit: int, begin: int) -> dict[int, Observation]:
        examples_R, *numbers = (self.sharded.padded(np.asarray(numbers)) for numbers in rows)
        puzzle, numbers_2R = puzzle_rows(self.data, examples_R), [n.astype(np.int32) for n in numbers]
        with self._clock:
            measured = self.program(self.parameters, *self.sharded.spread((puzzle, *numbers_2R)))
            measured = {name: np.asarray(value) for name, value in measured.items()}
        real, depths = slice(len(rows.examples_R)), self.settings.depths
        by_depth = {
            depth: observation({name: value[i] for name, value in measured.items()}).rows(real)
            for i, depth in enumerate(depths)
        }
        if 1 in by_depth:
            del by_depth[1].values["residual"]
        return by_depth

    def pool(self, unit: int, size: int) -> Pool:
        fill = slots.nothing(len(self.sharded.padded(np.arange(size))), self.data.shape.seq_len)
        empty = self._empty(self.parameters, self.sharded.spread(fill))
        step = partial(self._step, self.parameters)
        return slots.XLAPool(step, empty, size, self.data, self.sharded, self._clock)

    def device_seconds(self) -> float:
        return self._clock.lap()

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


def devices_of(device: str) -> list[jax.Device]:
    """The devices of this process that `device` names: auto, cpu, cuda, or cuda:1.

    Raises:
        ValueError: JAX has no such device.
    """
    platform, _, number = device.partition(":")
    try:
        devices = jax.local_devices(backend=None if platform == "auto" else platform)
        return [devices[int(number)]] if number else devices
    except (RuntimeError, IndexError):
        raise ValueError(f"device={device} needs a device that JAX can use; it has {jax.devices()}") from None


def _random_std(start: Start) -> float | None:
    """The std of random starts that stand in for stored ones; None for a model's own starts."""
    if isinstance(start, RandomInit):
        return start.stds[0]  # EqR's own are in its arch
    return start.std if isinstance(start, RandomCells) else None
