"""When a trajectory of a streaming evaluation halts.

Shapes: R rows, each a trajectory.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


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
