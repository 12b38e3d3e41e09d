"""The settings of an evaluation, and what is measured of trajectories.

Shapes: R rows, each a trajectory; S tokens of a puzzle.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from config.schema import Arch, EvalConfig
from models.act import by_row
from models.reasoner import Readout, State


@dataclass(frozen=True)
class Halting:
    """When a trajectory of a streaming evaluation leaves; with neither threshold it never does before the end.

    Args:
        q: sigmoid(q_halt) must be above this.
        residual: the residual must have been below this for `patience` iterations in a row.
        patience: see `residual`.
        min_steps: and not before so many iterations.
    """

    q: float | None = None
    residual: float | None = None
    patience: int = 3
    min_steps: int = 2

    def fires(self, steps_R: Tensor, q_halt_R: Tensor, calm_R: Tensor) -> Tensor:
        """Which rows leave [R]; `calm_R` counts the iterations with a residual below the threshold."""
        if self.q is None and self.residual is None:
            return torch.zeros_like(steps_R, dtype=torch.bool)
        fired = steps_R >= self.min_steps
        if self.q is not None:
            fired = fired & (q_halt_R > math.log(self.q) - math.log1p(-self.q))
        if self.residual is not None:
            fired = fired & (calm_R >= self.patience)
        return fired


@dataclass(frozen=True)
class Settings:
    """How to evaluate.

    Args:
        depths: outer iterations to report at; in a streaming evaluation one, the most that a trajectory makes.
        breadth: trajectories a puzzle.
        top_k: how many of the best converged trajectories are kept (None: that selection is not reported).
        window: changes of the logits that the convergence score averages over.
        rows: trajectories that a device works on at a time.
        seed: of all random draws.
        perturb_std: scale of the noise added to the latents once an outer iteration.
        loss_type: the token loss that is reported (config.schema.Loss).
        learned_halting: whether the total loss that is reported has the halting loss in it.
        halting: makes the evaluation a streaming one: a slot whose trajectory has left takes the next.
        agree: streaming: so many halted restarts with the same answer free a puzzle's later ones.
        look_interval: streaming: iterations between two looks of the host.
    """

    depths: list[int]
    breadth: int = 1
    top_k: int | None = None
    window: int = 3
    rows: int = 768
    seed: int = 0
    perturb_std: float = 0.0
    loss_type: str = "stablemax_cross_entropy"
    learned_halting: bool = True
    halting: Halting | None = None
    agree: int | None = None
    look_interval: int = 2


def settings_for(config: EvalConfig, arch: Arch) -> Settings:
    """The settings that a configuration asks for."""
    rule = Halting(config.halt_q, config.halt_residual, config.halt_patience, config.halt_min_steps)
    return Settings(
        depths=sorted(set(config.halt_max_steps or [arch.halt_max_steps])),
        breadth=config.different_init,
        top_k=config.convergence_top_k,
        window=config.convergence_window,
        rows=config.global_batch_size,
        seed=config.seed,
        perturb_std=config.perturb_std,
        loss_type=arch.loss.loss_type,
        learned_halting=arch.learned_halting,
        halting=rule if config.streaming else None,
        agree=config.agree,
        look_interval=config.look_interval,
    )


@dataclass(frozen=True)
class Seen:
    """R trajectories at one depth: per-row values by name, answers, halting logits and convergence scores."""

    values: dict[str, np.ndarray]  # each [R] float64
    predictions_RS: np.ndarray
    q_halt_R: np.ndarray
    scores_R: np.ndarray  # NaN where there is none

    def rows(self, index: np.ndarray | slice) -> "Seen":
        """Some of the rows."""
        values = {name: value[index] for name, value in self.values.items()}
        return Seen(values, self.predictions_RS[index], self.q_halt_R[index], self.scores_R[index])


def together(parts: Sequence[Seen]) -> Seen:
    """The rows of all parts, in order."""
    return Seen(
        {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values},
        np.concatenate([part.predictions_RS for part in parts]),
        np.concatenate([part.q_halt_R for part in parts]),
        np.concatenate([part.scores_R for part in parts]),
    )


def _latent_statistics(state: State) -> dict[str, Tensor]:
    """How the two latents lie and how they relate: statistics over D of every position, averaged, each [R].

    Nothing for models that do not carry two latents of one shape.
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


def look(
    state: State,
    readout: Readout,
    residual_R: Tensor | None,
    score_R: Tensor | None,
    settings: Settings,
    **more: Tensor,
) -> Seen:
    """Everything that is measured of rows; `more` are further values [R] by name. Waits for the device."""
    values = {
        **by_row(readout, state.labels, settings.loss_type, settings.learned_halting),
        "steps": state.steps,
        **_latent_statistics(state),
        **more,
    }
    if residual_R is not None:
        values["residual"] = residual_R
    rows_VR = torch.stack([value.double() for value in values.values()]).cpu().numpy()
    return Seen(
        dict(zip(values, rows_VR, strict=True)),
        readout.logits.argmax(-1).int().cpu().numpy(),
        readout.q_halt.double().cpu().numpy(),
        np.full(len(state.steps), np.nan) if score_R is None else score_R.double().cpu().numpy(),
    )


class Clock:
    """Adds up the seconds that the device worked inside `with clock:`; on a CPU, those of the clock on the wall."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
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
            self._seconds += time.perf_counter() - self._began

    def read(self) -> float:
        """The seconds so far. Waits for the device."""
        if self._cuda:
            torch.cuda.synchronize()
            self._seconds += sum(begin.elapsed_time(end) for begin, end in self._events) / 1e3
            self._events.clear()
        return self._seconds
