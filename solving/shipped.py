"""The checkpoints that come with the repository, and loading one for solve.py."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dataset.boards import Kind, Maze, Sudoku

if TYPE_CHECKING:
    from solving.solver import Solver

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


def load(kind: Kind, checkpoint: str | None) -> "Solver":
    """A solver for a kind of puzzle, from the given checkpoint or else the shipped one.

    Imports PyTorch only here, so that errors in the input appear at once.

    Raises:
        ValueError: there is no such checkpoint, or it was trained on other puzzles.
    """
    file = checkpoint or str(checkpoint_for(kind))
    from solving.solver import Solver

    solver = Solver.load(file, kind.size**2, kind.vocab_size)
    solver.require(kind)
    return solver
