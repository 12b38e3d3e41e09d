"""Solves puzzles that a user brings, checks the answers by the rules, and shows boards in terminals and GIFs.

`from solving import Solver` answers puzzles with a checkpoint (docs/solve.md).
"""

from typing import TYPE_CHECKING, Any

import config  # noqa: F401

if TYPE_CHECKING:
    from solving.solver import Solver

__all__ = ["Solver"]


def __getattr__(name: str) -> Any:
    """Imports the solver, and PyTorch with it, only when `Solver` is used. Other modules here need neither."""
    if name == "Solver":
        from solving.solver import Solver

        return Solver
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
