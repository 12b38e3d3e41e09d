"""Shows a board in the terminal after each iteration, with the changed cells marked."""

import math
import shutil
import time
from collections.abc import Iterator
from typing import NamedTuple, TextIO

import numpy as np

from dataset.boards import Kind, plain
from solving.answers import Trace

_REVERSE, _END, _CLEAR_REST = "\x1b[7m", "\x1b[0m", "\x1b[K"
_SECONDS = 0.15


class Frame(NamedTuple):
    """The board after one iteration; iteration 0 is the puzzle itself."""

    caption: str
    tokens_S: np.ndarray
    changed_S: np.ndarray  # bool


def frames(puzzle_S: np.ndarray, trace: Trace) -> Iterator[Frame]:
    """Yields the puzzle, then the board after each iteration."""
    depth = len(trace.answers_TS)
    yield Frame(f"iteration 0 of {depth}: the puzzle", puzzle_S, np.zeros(len(puzzle_S), bool))
    before_S = puzzle_S
    for iteration, (tokens_S, residual) in enumerate(zip(trace.answers_TS, trace.residual_T, strict=True), start=1):
        changed_S = tokens_S != before_S
        count = int(changed_S.sum())
        moved = "" if math.isnan(residual) else f", residual {residual:.4f}"
        caption = f"iteration {iteration} of {depth}: {count} cell{'s' * (count != 1)} changed{moved}"
        yield Frame(caption, tokens_S, changed_S)
        before_S = tokens_S


def play(kind: Kind, puzzle_S: np.ndarray, trace: Trace, out: TextIO) -> None:
    """Writes every frame: in place if `out` is a terminal of enough lines, else one below the other."""
    terminal, in_place, size = out.isatty(), False, shutil.get_terminal_size()
    for frame in frames(puzzle_S, trace):
        changed_S = frame.changed_S

        def mark(cell: int, character: str, changed_S: np.ndarray = changed_S) -> str:
            return f"{_REVERSE}{character}{_END}" if changed_S[cell] else character

        caption = frame.caption[: size.columns] if terminal else frame.caption  # else it would take two lines
        lines = [*kind.drawn(frame.tokens_S, mark if terminal else plain).split("\n"), caption]
        up = f"\x1b[{len(lines)}A" if in_place else ""
        out.write(up + "".join(line + (_CLEAR_REST if terminal else "") + "\n" for line in lines))
        out.write("" if terminal else "\n")
        out.flush()
        in_place = terminal and len(lines) < size.lines
        if terminal:
            time.sleep(_SECONDS)
