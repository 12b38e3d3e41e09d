"""The slots of a streaming evaluation, in PyTorch: a pool that does not wait for the device until the host looks.

Shapes: R slots, S tokens, V vocabulary, W the window of the convergence score.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from dataset.puzzles import Batch, Puzzles
from evaluation.observations import Clock, Observation, observe
from evaluation.settings import Settings
from evaluation.trajectory import Starts, begin, convergence_score, evaluating, perturbed, residual
from models.core import Latents
from models.reasoner import Readout, Reasoner, State, where_rows


class Slots(NamedTuple):
    """The pool: a value, like a State. A slot that has halted is empty, or waits until the host looks."""

    state: State
    readout: Readout  # of the last iteration
    residuals: Tensor  # [R, W] the last W, the latest last; NaN for iterations not made, and for the first
    calm: Tensor  # [R] int32: iterations in a row with a residual below the threshold
    fired: Tensor  # [R] bool: the halting rule fired; other trajectories end at the largest depth


def fresh(model: Reasoner, batch: Batch, latents: Latents, window: int) -> Slots:
    """Slots whose trajectories begin at `latents`."""
    state = begin(batch, latents)
    rows, tokens = batch.inputs.shape
    zeros_R = state.inputs.new_zeros(rows, dtype=torch.float32)
    logits = zeros_R.new_zeros(rows, tokens, model.lm_head.weight.shape[0], dtype=model.embed_tokens.dtype)
    residuals = zeros_R.new_full((rows, window), torch.nan)
    return Slots(state, Readout(logits, zeros_R, zeros_R), residuals, state.steps, state.halted)


def iterate(model: Reasoner, slots: Slots, settings: Settings) -> Slots:
    """One outer iteration of every slot that has not halted. Does not wait for the device."""
    halting = settings.halting
    assert halting is not None
    state, readout = model.advance(perturbed(slots.state, settings.perturb_std))
    residual_R = torch.where(state.steps > 1, residual(readout.logits, slots.readout.logits), torch.nan)
    below_R = residual_R < (0.0 if halting.residual is None else halting.residual)
    calm_R = torch.where(below_R, slots.calm + 1, 0)
    fired_R = halting.fires(state.steps, readout.q_halt, calm_R)
    state = state._replace(halted=fired_R | (state.steps >= max(settings.depths)))
    residuals_RW = torch.cat((slots.residuals[:, 1:], residual_R[:, None]), dim=1)
    moved = Slots(state, readout, residuals_RW, calm_R, fired_R)
    return _where(slots.state.halted, slots, moved)


def _where(rows_R: Tensor, yes: Slots, no: Slots) -> Slots:
    def choose(old: Tensor, new: Tensor) -> Tensor:
        return old if old is new else where_rows(rows_R, old, new)

    chosen: Slots = tree_map(choose, yes, no)
    return chosen


class SlotPool:
    """`evaluation.streaming.Pool` in PyTorch. At first all slots are empty."""

    def __init__(
        self, model: Reasoner, data: Puzzles, starts: Starts, settings: Settings, clock: Clock, size: int
    ) -> None:
        self._model, self._data, self._starts, self._settings, self._clock = model, data, starts, settings, clock
        empty = self._fresh(*np.zeros((3, size), int))
        self._slots = empty._replace(state=empty.state._replace(halted=torch.ones_like(empty.state.halted)))

    def _fresh(self, examples_R: np.ndarray, puzzles_R: np.ndarray, restarts_R: np.ndarray) -> Slots:
        batch = self._data.rows(examples_R)
        latents = self._starts(puzzles_R, restarts_R, batch.inputs.device)
        return fresh(self._model, batch, latents, self._settings.window)

    def _at(self, rows: np.ndarray) -> Slots:
        index = torch.from_numpy(rows).to(self._slots.fired.device)
        chosen: Slots = tree_map(lambda t: t[index], self._slots)
        return chosen

    def fill(self, rows: np.ndarray, examples_R: np.ndarray, puzzles_R: np.ndarray, restarts_R: np.ndarray) -> None:
        new = self._fresh(examples_R, puzzles_R, restarts_R)
        index = torch.from_numpy(rows).to(new.fired.device)
        self._slots = tree_map(lambda old, fill: old.index_copy(0, index, fill), self._slots, new)

    @torch.no_grad()
    def advance(self) -> None:
        with evaluating(self._model), self._clock:
            for _ in range(self._settings.look_interval):
                self._slots = iterate(self._model, self._slots, self._settings)

    def halted_and_steps(self) -> np.ndarray:
        state = self._slots.state
        both: np.ndarray = torch.stack((state.halted.int(), state.steps)).cpu().numpy()
        return both

    def look(self, rows: np.ndarray) -> Observation:
        slots = self._at(rows)
        score_R, forced_R = convergence_score(slots.residuals), ~slots.fired
        return observe(slots.state, slots.readout, slots.residuals[:, -1], score_R, self._settings, forced=forced_R)

    def keep(self, rows: np.ndarray) -> None:
        self._slots = self._at(rows)
