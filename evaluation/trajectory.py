"""Trajectories: a puzzle's latents, iterated, with the residual that says how well they have settled.

Shapes: R rows, each a trajectory; S tokens, V vocabulary, W the window of the convergence score.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dataset.puzzles import Batch
from models.core import Latents, Start
from models.devices import fork_rng
from models.reasoner import Readout, Reasoner, State

_BLOCK = 64
"""Starts are drawn for this many neighbouring puzzles at a time."""


def seed(*numbers: int) -> None:
    """Makes what torch draws next a function of these numbers."""
    stream = np.random.SeedSequence([2, *numbers]).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(stream >> 1))


class Starts:
    """Draws the latents of trajectories as a function of (seed, puzzle, restart).

    Neither the order nor the batch makes a difference, so the first restarts of a puzzle are the same at every breadth.
    torch's own random streams stay as they are.
    """

    def __init__(self, start: Start, seed: int) -> None:
        self._start, self._seed = start, seed
        self._last: tuple[tuple[int, int], Latents] | None = None

    def __call__(self, puzzles_R: np.ndarray, restarts_R: np.ndarray, device: torch.device) -> Latents:
        """The latents, each [R, ...], of R trajectories, given the numbers of their puzzles and restarts."""
        groups_R = puzzles_R // _BLOCK
        order_R = np.lexsort((groups_R, restarts_R))
        block_2R = np.stack((groups_R, restarts_R))[:, order_R]
        edges = np.flatnonzero(np.r_[True, (np.diff(block_2R) != 0).any(0), True])
        place_R, back_R = torch.from_numpy(np.stack((puzzles_R[order_R] % _BLOCK, np.argsort(order_R)))).to(device)
        pieces: list[Latents] = []
        with fork_rng(device):
            for begin, end in zip(edges, edges[1:], strict=False):
                block = self._block(int(block_2R[0, begin]), int(block_2R[1, begin]))
                pieces.append(tuple(z[place_R[begin:end]] for z in block))
        return tuple(torch.cat(parts)[back_R] for parts in zip(*pieces, strict=True))

    def _block(self, group: int, restart: int) -> Latents:
        key = (group, restart)
        if self._last is None or self._last[0] != key:
            seed(self._seed, 0, group, restart)
            self._last = (key, self._start(_BLOCK))
        return self._last[1]


def perturbed(state: State, std: float) -> State:
    """The state with normal noise of this scale added to all latents."""
    if not std:
        return state
    return state._replace(latents=tuple(z + std * torch.randn_like(z) for z in state.latents))


def begin(batch: Batch, latents: Latents) -> State:
    """Rows on `batch` at `latents`, before their first iteration."""
    steps = torch.zeros(len(batch.inputs), dtype=torch.int32, device=batch.inputs.device)
    return State(latents, *batch, steps=steps, halted=torch.zeros_like(steps, dtype=torch.bool))


def residual(logits_RSV: Tensor, before_RSV: Tensor) -> Tensor:
    """How far the answer moved in an outer iteration [R]: the L2 norm over V of the logits' change, mean over S.

    The paper's r_t, of the logits instead of the latents. Computed in float32.
    """
    return (logits_RSV.float() - before_RSV.float()).norm(dim=-1).mean(-1)


def convergence_score(residuals_RW: Tensor) -> Tensor:
    """The mean of the last W residuals [R]; NaN entries, of iterations not made, do not count. Lower is better."""
    return residuals_RW.nanmean(-1)


@contextmanager
def evaluating(model: Reasoner) -> Iterator[None]:
    """Puts the model in evaluation mode within this block, and back into its earlier mode at the end."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


class Iteration(NamedTuple):
    """R rows after an outer iteration. The first iteration has neither residual nor score: no logits came before."""

    state: State
    readout: Readout
    residual_R: Tensor | None
    score_R: Tensor | None


def trajectory(
    model: Reasoner,
    batch: Batch,
    depth: int,
    perturb_std: float = 0.0,
    latents: Latents | None = None,
    window: int = 3,
) -> Iterator[Iteration]:
    """Makes `depth` outer iterations and yields each. No row halts, and memory does not grow with depth.

    Args:
        model: the reasoner.
        batch: the puzzles, R rows.
        depth: outer iterations.
        perturb_std: scale of the noise that every iteration adds to the latents first, for models trained without it.
        latents: where to start; by default the model draws fresh latents.
        window: how many residuals the convergence score averages.
    """
    state = model.start(batch) if latents is None else begin(batch, latents)
    before: Tensor | None = None
    residuals: deque[Tensor] = deque(maxlen=window)
    for _ in range(depth):
        with torch.no_grad():  # not around the yield, where it would hold for the caller too
            state, readout = model.advance(perturbed(state, perturb_std))
            if before is not None:
                residuals.append(residual(readout.logits, before))
        before = readout.logits
        if residuals:
            yield Iteration(state, readout, residuals[-1], convergence_score(torch.stack(tuple(residuals)).T))
        else:
            yield Iteration(state, readout, None, None)
