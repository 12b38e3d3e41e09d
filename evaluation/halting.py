"""When a trajectory of a streaming evaluation halts.

Shapes: R rows, each a trajectory.
"""

import math
from dataclasses import dataclass
from typing import Any, TypeVar

A = TypeVar("A", bound=Any)


@dataclass(frozen=True)
class Halting:
    """When a trajectory of a streaming evaluation halts. All given conditions must hold; without any it never halts.

    Args:
        q: sigmoid(q_halt) is above this.
        residual: the residual has been below this for `patience` iterations in a row.
        patience: see `residual`.
        min_steps: the least number of iterations; no condition by itself.
    """

    q: float | None = None
    residual: float | None = None
    patience: int = 3
    min_steps: int = 2

    def fires(self, steps_R: A, q_halt_R: A, calm_R: A) -> A:
        """Whether each row halts, bool [R]. `calm_R` counts the iterations with a residual below the threshold.

        The arrays are PyTorch's or XLA's.
        """
        if self.q is None and self.residual is None:
            return steps_R < 0
        fired = steps_R >= self.min_steps
        if self.q is not None:
            fired = fired & (q_halt_R > math.log(self.q) - math.log1p(-self.q))
        if self.residual is not None:
            fired = fired & (calm_R >= self.patience)
        return fired
