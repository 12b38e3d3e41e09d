"""Solves puzzles that a user brings, checks the answers by the rules, and shows boards in terminals and GIFs.

`from solving import Solver` answers puzzles with a checkpoint (docs/solve.md).
"""

from typing import TYPE_CHECKING, Any

import config  # noqa: F401

if TYPE_CHECKING:
    from solving.onnx_solver import OnnxSolver
    from solving.solver import Solver

__all__ = ["OnnxSolver", "Solver"]


def __getattr__(name: str) -> Any:
    """Imports PyTorch only when `Solver` is used, and onnxruntime only when `OnnxSolver` is."""
    if name == "Solver":
        from solving.solver import Solver

        return Solver
    if name == "OnnxSolver":
        from solving.onnx_solver import OnnxSolver

        return OnnxSolver
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
