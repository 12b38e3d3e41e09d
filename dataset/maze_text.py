"""Mazes in the notations in which people write them down (docs/solve.md lists them)."""

import re
from collections.abc import Sequence
from math import isqrt

from dataset.sudoku_text import Board, Line, Unfinished

_WALLS = "#@█■"
_MARKS = "oxX*"
"""Mark the way in an answer: open cells, as all answers are found anew."""
_ENDS = "SGEAB"
_ROW = re.compile(r"[#@█■oxX*SGEAB .]+")
_BINARY = re.compile(r"[01SGEAB ]+")
_SHORT = 100
"""A line of fewer cells with both ends may be a maze or the first row of one."""


def is_maze(lines: Sequence[Line]) -> bool:
    """Whether a block of lines is a maze, or several, rather than Sudokus."""
    texts = [text for _, text in lines if text]
    binary = [text for text in texts if _BINARY.fullmatch(text)]
    if len(binary) == len(texts) and any(c in text for text in binary for c in _ENDS):
        return True
    rows = [text for text in texts if _ROW.fullmatch(text) and any(c in text for c in _WALLS + _ENDS)]
    ends = any(c in text for text in rows for c in _ENDS)
    return len(rows) > sum(any(c.isdigit() for c in text) for text in texts) and (ends or len(rows) > 2)


def mazes(lines: Sequence[Line], ends: bool) -> list[Board]:
    """The mazes of a block of lines, in the characters of `dataset.boards.Maze`.

    Args:
        lines: not empty ones. Headings may stand between mazes.
        ends: whether the block ends with them.

    Raises:
        Unfinished: a line may be a maze, or go on as one.
        ValueError: a maze is not square. The sentence names the line.
    """
    found: list[Board] = []
    block: list[Line] = []
    for number, text in [*lines, (0, "")]:
        if text and not _is_heading(text):
            block.append((number, text))
        elif block:
            found += _mazes(block, ends)
            block = []
    return found


def _is_heading(text: str) -> bool:
    return not any(c in text for c in _WALLS) and any(c.isalpha() and c not in _MARKS + _ENDS for c in text)


def _mazes(block: list[Line], ends: bool) -> list[Board]:
    one_a_line = [Board(number, _plain(text)) for number, text in block]
    if all("S" in cells and "G" in cells and isqrt(len(cells)) ** 2 == len(cells) for _, cells in one_a_line):
        if not ends and len(block) == 1 and len(block[0][1]) < _SHORT:
            raise Unfinished(f"line {block[0][0]} may be a maze or the first row of one")
        return one_a_line
    if not ends:
        raise Unfinished(f"line {block[0][0]} may be the first row of a maze")
    if len(block) == 1:
        number, text = block[0]
        raise ValueError(
            f"line {number} has {len(text)} characters, but a maze on one line is square, with an S and a G "
            "(are spaces lost at an end of it?)"
        )
    for number, text in block:
        if len(text) != len(block):
            alike = len({len(text) for _, text in block}) == 1
            hint = "" if alike else " (if spaces at the end of a line get lost, write . for open cells)"
            fault = f"but a maze is square, and this one has {len(block)} lines{hint}"
            raise ValueError(f"line {number} has {len(text)} characters, {fault}")
    return [Board(block[0][0], _plain("".join(text for _, text in block)))]


def _plain(cells: str) -> str:
    """The cells of a maze with our own characters."""
    if _BINARY.fullmatch(cells):
        cells = cells.translate(str.maketrans("10", "#."))
    cells = cells.translate(str.maketrans(_WALLS + _MARKS, "#" * len(_WALLS) + "." * len(_MARKS)))
    if "G" not in cells:
        cells = cells.replace("E", "G")
    if not set("SG") & set(cells):
        cells = cells.replace("A", "S").replace("B", "G")
    return cells
