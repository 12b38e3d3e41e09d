"""The checkpoints that come with the repository, and loading one for solve.py."""

import ctypes
import importlib.util
from pathlib import Path
from typing import NamedTuple

from dataset.boards import Kind, Maze, Sudoku
from runtime.hub import resolve
from solving.answers import Answering

ENGINES = ("auto", "torch", "onnx")
FOLDER = Path(__file__).resolve().parents[1] / "checkpoints"


class Shipped(NamedTuple):
    """A checkpoint's folder, and the train config that makes such a checkpoint."""

    folder: str
    train: str


SHIPPED: dict[Kind, Shipped] = {
    Sudoku(9): Shipped("sudoku", "eqr_sudoku"),
    Maze(30): Shipped("maze_unique", "eqr_maze_unique_tuned"),
}
_QUICKSTART: Kind = Sudoku(4)  # scripts/quickstart.sh trains on these


def checkpoint_for(kind: Kind) -> Path:
    """The shipped checkpoint for a kind of puzzle.

    Raises:
        ValueError: there is none. The sentence says how to get one.
    """
    if kind not in SHIPPED:
        advice = (
            "bash scripts/quickstart.sh trains one" if kind == _QUICKSTART else "train one (docs/solve.md says how)"
        )
        raise ValueError(f"no checkpoint for {kind.name}s comes with this program: {advice}; give it as --checkpoint")
    file = FOLDER / SHIPPED[kind].folder / "last.safetensors"
    if not file.is_file():
        raise ValueError(
            f"{file.relative_to(FOLDER.parent)}, the checkpoint for a {kind.name}, is not there: train one with "
            f"`bash scripts/train.sh {SHIPPED[kind].train}`, or download one with "
            "`bash scripts/download_artifacts.sh --ckpts-only`, and give it as --checkpoint"
        )
    return file


def _has_gpu() -> bool:
    """Whether NVIDIA's driver has a GPU. PyTorch would know more, but takes a second to import."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _engine(wanted: str, file: Path, model: Path) -> str:
    """ "torch" for a checkpoint or "onnx" for its ONNX file, as wanted or, if "auto", as is faster.

    Raises:
        ValueError: what the engine needs is not there.
    """
    lacks_onnx = None if model.is_file() else f"there is no {model}, which python -m solving.export writes"
    if not _installed("onnxruntime"):
        lacks_onnx = lacks_onnx or "onnxruntime is not installed: pip install -e '.[onnx]'"
    lacks_torch = None if file != model else f"PyTorch does not read {file}: give the checkpoint that it was made from"
    if not _installed("torch"):
        lacks_torch = lacks_torch or "PyTorch is not installed: pip install -e '.[torch]'"
    if wanted == "auto" and not (lacks_onnx and lacks_torch):
        return "torch" if lacks_onnx or (not lacks_torch and _has_gpu()) else "onnx"
    if lacks := lacks_torch if wanted == "torch" else lacks_onnx:
        raise ValueError(f"{lacks}; {lacks_torch}" if wanted == "auto" else lacks)
    return wanted


def load(kind: Kind, checkpoint: str | None, engine: str = "auto") -> Answering:
    """A solver for a kind of puzzle, from the given checkpoint or else the shipped one.

    Imports PyTorch or onnxruntime only here, so that errors in the input appear at once.

    Args:
        kind: the kind of puzzle.
        checkpoint: a checkpoint, a run directory, an ONNX file or an address on the hub; None for the shipped one.
        engine: one of ENGINES. "auto" takes onnxruntime if there is no GPU, but an ONNX file.

    Raises:
        ValueError: there is no such checkpoint, it was trained on other puzzles, or the engine cannot run it.
    """
    file = resolve(checkpoint or checkpoint_for(kind))
    model = file.with_suffix(".onnx")
    solver: Answering
    if _engine(engine, file, model) == "onnx":
        from solving.onnx_solver import OnnxSolver

        solver = OnnxSolver.load(model)
    else:
        from solving.solver import Solver

        solver = Solver.load(str(file), kind.size**2, kind.vocab_size)
    solver.require(kind)
    return solver
