"""Solves puzzles that a user brings, checks the answers by the rules, and shows boards in terminals and GIFs.

`from solving import Solver` answers puzzles with a checkpoint (docs/solve.md).
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import config  # noqa: F401

if TYPE_CHECKING:
    from solving.onnx_solver import OnnxSolver
    from solving.solver import Solver

__all__ = ["OnnxSolver", "Solver"]


def __getattr__(name: str) -> Any:
    """Imports PyTorch only when `Solver` is used, and onnxruntime only when `OnnxSolver` is.

    Without PyTorch, `Solver` is `OnnxSolver`.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "Solver" and find_spec("torch"):
        from solving.solver import Solver

        return Solver
    from solving.onnx_solver import OnnxSolver

    return OnnxSolver
