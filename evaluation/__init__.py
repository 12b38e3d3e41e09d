"""Evaluation: trajectories in depth and breadth, selection among them, metrics and reports.

`from evaluation import Solver` answers puzzles with a checkpoint (docs/solve.md).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.solving.solver import Solver

__all__ = ["Solver"]


def __getattr__(name: str) -> Any:
    """Imports the solver, and PyTorch with it, when it is asked for: other modules here do without."""
    if name == "Solver":
        from evaluation.solving.solver import Solver

        return Solver
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
