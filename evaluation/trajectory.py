"""Trajectories: a puzzle's latents, iterated, with the residual that says how well they have settled."""

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dataset.puzzles import Batch
from models.core import Latents
from models.reasoner import Readout, Reasoner, State, where_rows

_BLOCK = 64
"""Starts are drawn for so many neighbouring puzzles at a time."""


def seed(*numbers: int) -> None:
    """Makes what torch draws next a function of these numbers."""
    stream = np.random.SeedSequence([2, *numbers]).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(stream >> 1))


class Starts:
    """Fresh latents as a function of (seed, puzzle, restart): whatever else runs, in whatever order or batch.

    The first restarts of a puzzle are therefore the same at every breadth. The generators' own streams are not
    touched.
    """

    def __init__(self, model: Reasoner, number: int) -> None:
        self._model, self._number = model, number
        self._last: tuple[tuple[int, int], Latents] | None = None

    def __call__(self, puzzles_R: np.ndarray, restarts_R: np.ndarray, device: torch.device) -> Latents:
        """Latents, each [R, ...], of R trajectories, named by the numbers of their puzzles and restarts."""
        groups_R = puzzles_R // _BLOCK
        order_R = np.lexsort((groups_R, restarts_R))
        block_2R = np.stack((groups_R, restarts_R))[:, order_R]
        edges = np.flatnonzero(np.r_[True, (np.diff(block_2R) != 0).any(0), True])
        place_R, back_R = torch.from_numpy(np.stack((puzzles_R[order_R] % _BLOCK, np.argsort(order_R)))).to(device)
        pieces: list[Latents] = []
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for begin, end in zip(edges, edges[1:], strict=False):
                block = self._block(int(block_2R[0, begin]), int(block_2R[1, begin]))
                pieces.append(tuple(z[place_R[begin:end]] for z in block))
        return tuple(torch.cat(parts)[back_R] for parts in zip(*pieces, strict=True))

    def _block(self, group: int, restart: int) -> Latents:
        key = (group, restart)
        if self._last is None or self._last[0] != key:
            seed(self._number, 0, group, restart)
            self._last = (key, self._model.core.start(_BLOCK))
        return self._last[1]


def perturbed(state: State, std: float) -> State:
    """The latents of rows that have made an iteration, with noise of that scale added."""
    if not std:
        return state
    noisy = tuple(where_rows(state.steps > 0, z + std * torch.randn_like(z), z) for z in state.latents)
    return state._replace(latents=noisy)


def begin(batch: Batch, latents: Latents) -> State:
    """Rows on `batch` that start from `latents`, with no iteration made."""
    steps = torch.zeros(len(batch.inputs), dtype=torch.int32, device=batch.inputs.device)
    return State(latents, *batch, steps=steps, halted=torch.zeros_like(steps, dtype=torch.bool))


def trajectory(
    model: Reasoner, batch: Batch, depth: int, perturb_std: float = 0.0, latents: Latents | None = None
) -> Iterator[tuple[State, Readout]]:
    """`depth` outer iterations from a fresh start, or from `latents`, without halting. Yields after each one.

    `perturb_std` is the scale of noise that every iteration but the first adds to the latents it starts
    from: a way to give models breadth that were trained without noise.
    """
    state = model.start(batch) if latents is None else begin(batch, latents)
    for _ in range(depth):
        with torch.no_grad():  # not around the yield, where it would hold for the caller too
            state, readout = model.advance(perturbed(state, perturb_std))
        yield state, readout


class Residuals:
    """Rolling residuals of R trajectories; memory does not grow with depth.

    A residual is the L2 norm over the vocabulary of the change in logits between consecutive outer
    iterations, averaged over tokens.
    """

    def __init__(self, window: int) -> None:
        self._logits: Tensor | None = None
        self._window: deque[Tensor] = deque(maxlen=window)

    def add(self, logits_RSV: Tensor) -> None:
        logits = logits_RSV.float()
        if self._logits is not None:
            self._window.append((logits - self._logits).norm(dim=-1).mean(-1))
        self._logits = logits

    def last(self) -> Tensor | None:
        """The latest residual [R]; None after a single iteration, which has none."""
        return self._window[-1] if self._window else None

    def score(self) -> Tensor | None:
        """The convergence score [R]: the mean residual over the window. Lower is better converged."""
        return torch.stack(tuple(self._window)).mean(0) if self._window else None
