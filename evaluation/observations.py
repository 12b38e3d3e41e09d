"""What is measured of trajectories.

Shapes: R rows, each a trajectory; S tokens of a puzzle.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.settings import Settings
from models.devices import kind
from models.losses import row_metrics
from models.reasoner import Readout, State


@dataclass(frozen=True)
class Observation:
    """R trajectories at one depth: values of each row by name, answers, halting logits and convergence scores."""

    values: dict[str, np.ndarray]  # each [R] float64
    predictions_RS: np.ndarray
    q_halt_R: np.ndarray
    scores_R: np.ndarray  # NaN after a single iteration

    def rows(self, index: np.ndarray | slice) -> "Observation":
        """Some of the rows."""
        values = {name: value[index] for name, value in self.values.items()}
        return Observation(values, self.predictions_RS[index], self.q_halt_R[index], self.scores_R[index])


class Findings(NamedTuple):
    """What an observer found in a whole evaluation."""

    metrics: dict[int, dict[str, float]]  # by depth
    files: dict[str, str]  # their text by name


def concatenate(parts: Sequence[Observation]) -> Observation:
    """The rows of all parts, in order."""
    return Observation(
        {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values},
        np.concatenate([part.predictions_RS for part in parts]),
        np.concatenate([part.q_halt_R for part in parts]),
        np.concatenate([part.scores_R for part in parts]),
    )


def _latent_statistics(state: State) -> dict[str, Tensor]:
    """Statistics of the two latents and of how they relate, each [R]: taken over D, averaged over positions.

    Empty for a model whose latents are not two of one shape.
    """
    if len(state.latents) != 2:
        return {}
    z_H, z_L = (z.float() for z in state.latents)

    def centred(z: Tensor) -> Tensor:
        return z - z.mean(-1, keepdim=True)

    by_position = {
        "zH_mean": z_H.mean(-1),
        "zH_std": z_H.std(-1),
        "zL_mean": z_L.mean(-1),
        "zL_std": z_L.std(-1),
        "zH_zL_cos_sim": F.cosine_similarity(z_H, z_L, dim=-1),
        "zH_zL_pearson": F.cosine_similarity(centred(z_H), centred(z_L), dim=-1),
    }
    return {name: value.mean(1) for name, value in by_position.items()}


def observe(
    state: State,
    readout: Readout,
    residual_R: Tensor | None,
    score_R: Tensor | None,
    settings: Settings,
    **more: Tensor,
) -> Observation:
    """Everything that is measured of the rows. `more` are further values [R] by name. Waits for the device."""
    values = {
        **row_metrics(readout, state.labels, settings.loss_type, settings.learned_halting),
        "steps": state.steps,
        **_latent_statistics(state),
        **more,
    }
    if residual_R is not None:
        values["residual"] = residual_R
    widest = kind(readout.logits.device).widest
    rows_VR = torch.stack([value.to(widest) for value in values.values()]).cpu().double().numpy()
    return Observation(
        dict(zip(values, rows_VR, strict=True)),
        readout.logits.argmax(-1).int().cpu().numpy(),
        readout.q_halt.cpu().double().numpy(),
        np.full(len(state.steps), np.nan) if score_R is None else score_R.cpu().double().numpy(),
    )


class Clock:
    """Adds up the seconds that the device works inside `with clock:`; on a CPU, the seconds that pass."""

    def __init__(self, device: torch.device) -> None:
        self._cuda, self._wait = device.type == "cuda", kind(device).wait
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    def __enter__(self) -> None:
        if self._cuda:
            self._events.append((torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)))
            self._events[-1][0].record()
        else:
            self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        if self._cuda:
            self._events[-1][1].record()
        else:
            self._wait()
            self._seconds += time.perf_counter() - self._began

    def lap(self) -> float:
        """The seconds since the last call. Waits for the device."""
        if self._cuda:
            torch.cuda.synchronize()
            self._seconds += sum(begin.elapsed_time(end) for begin, end in self._events) / 1e3
            self._events.clear()
        seconds, self._seconds = self._seconds, 0.0
        return seconds
