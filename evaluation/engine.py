"""What runs trajectories on a device: PyTorch here, XLA in xla/engine.py. Everything else of an evaluation is the same.

Shapes: R rows, each a trajectory.
"""

from typing import NamedTuple, Protocol

import numpy as np
import torch

from dataset.puzzles import Puzzles
from evaluation.observations import Clock, Observation, observe
from evaluation.settings import Settings
from evaluation.slots import SlotPool
from evaluation.streaming import Pool
from evaluation.trajectory import Starts, evaluating, seed, trajectory
from models.core import Start
from models.reasoner import Reasoner


class Rows(NamedTuple):
    """R trajectories to run."""

    examples_R: np.ndarray  # their puzzles in the data
    puzzles_R: np.ndarray  # the numbers of these puzzles among those evaluated
    restarts_R: np.ndarray


class Devices(NamedTuple):
    """The devices that an engine works on."""

    kind: str  # cpu, cuda or tpu
    name: str


class Engine(Protocol):
    """Runs trajectories of a model on the puzzles of `data`, as `settings` say."""

    data: Puzzles
    settings: Settings
    devices: Devices

    def run(self, rows: Rows, unit: int, begin: int) -> dict[int, Observation]:
        """Runs trajectories to the largest depth, and observes them at every depth of the settings.

        They are those of a unit from its `begin`-th on; an engine's noise may depend on both.
        """
        ...

    def pool(self, unit: int, size: int) -> Pool:
        """`size` empty slots for a unit."""
        ...

    def device_seconds(self) -> float:
        """The seconds that the device has worked since the last call. Waits for the device."""
        ...


class TorchEngine:
    """Runs trajectories in PyTorch. They start from `start`. The model's mode is the same afterwards."""

    def __init__(self, model: Reasoner, start: Start, data: Puzzles, settings: Settings) -> None:
        self.data, self.settings, device = data, settings, data.device
        self.devices = Devices(
            device.type, torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        )
        self._model, self._starts, self._clock = model, Starts(start, settings.seed), Clock(data.device)

    def run(self, rows: Rows, unit: int, begin: int) -> dict[int, Observation]:
        settings, batch = self.settings, self.data.rows(rows.examples_R)
        with evaluating(self._model), self._clock:
            latents = self._starts(rows.puzzles_R, rows.restarts_R, self.data.device)
            seed(settings.seed, 1, unit, begin)
            iterations = trajectory(
                self._model, batch, max(settings.depths), settings.perturb_std, latents, settings.window
            )
            return {
                depth: observe(*iteration, settings)
                for depth, iteration in enumerate(iterations, start=1)
                if depth in settings.depths
            }

    def pool(self, unit: int, size: int) -> Pool:
        seed(self.settings.seed, 1, unit, 0)
        return SlotPool(self._model, self.data, self._starts, self.settings, self._clock, size)

    def device_seconds(self) -> float:
        return self._clock.lap()
