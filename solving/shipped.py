"""The checkpoints that come with the repository, what to do where there is none, and loading one for solve.py."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dataset.boards import Kind, Maze

if TYPE_CHECKING:
    from solving.solver import Solver

FOLDER = Path(__file__).resolve().parents[1] / "checkpoints"


def checkpoint_for(kind: Kind) -> Path:
    """The shipped checkpoint for a kind of puzzle.

    Raises:
        ValueError: one sentence: there is none, and how to come by one.
    """
    sizes = {30: ("maze_unique", "eqr_maze_unique_tuned")} if isinstance(kind, Maze) else {9: ("sudoku", "eqr_sudoku")}
    if kind.size not in sizes:
        quickstart = kind.size == 4 and not isinstance(kind, Maze)
        way = "bash scripts/quickstart.sh trains one" if quickstart else "train one (docs/solve.md says how)"
        raise ValueError(f"no checkpoint for {kind.name}s comes with this program: {way}; give it as --checkpoint")
    name, train = sizes[kind.size]
    file = FOLDER / name / "last.safetensors"
    if not file.is_file():
        raise ValueError(
            f"{file.relative_to(FOLDER.parent)}, the checkpoint for a {kind.name}, is not there: train one with "
            f"`bash scripts/train.sh {train}`, or download one with `bash scripts/download_artifacts.sh --ckpts-only`, "
            "and give it as --checkpoint"
        )
    return file


def load(kind: Kind, checkpoint: str | None) -> "Solver":
    """A solver for a kind of puzzle, from a given checkpoint or the shipped one.

    PyTorch is imported here, so that whatever needs no model is said at once.

    Raises:
        ValueError: one sentence: there is no such checkpoint, or it was trained on other puzzles.
    """
    chosen = checkpoint or str(checkpoint_for(kind))
    # Threads that wait spin a short while, then sleep: where other programs are busy, spinning on is many times slower.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    from solving.solver import Solver

    return Solver.load(chosen, kind.size**2, kind.vocab_size)
