"""Trajectories: a puzzle's latents, iterated, with the residual that says how well they have settled."""

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

from dataset.puzzles import Batch
from models.reasoner import Readout, Reasoner, State


def trajectory(model: Reasoner, batch: Batch, depth: int, perturb_std: float = 0.0) -> Iterator[tuple[State, Readout]]:
    """`depth` outer iterations from a fresh start, without halting. Yields after each one.

    `perturb_std` is the scale of noise that every iteration but the first adds to the latents it starts
    from: a way to give models breadth that were trained without noise.
    """
    state = model.start(batch)
    with torch.no_grad():
        for iteration in range(depth):
            if perturb_std and iteration:
                noisy = tuple(z + perturb_std * torch.randn_like(z) for z in state.latents)
                state = state._replace(latents=noisy)
            state, readout = model.advance(state)
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
