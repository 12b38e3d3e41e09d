"""Reads puzzles from text: one or many Sudokus or mazes, with errors that name the place.

Empty lines separate blocks. A block is one puzzle, a row per line, or several puzzles, one per line.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataset.boards import Kind, Maze, Sudoku
from dataset.sudoku import BOXES

_SUDOKUS = {size * size: Sudoku(size) for size in BOXES}
"""The Sudoku of so many cells."""


class Puzzle(NamedTuple):
    """A puzzle and the line of the text that it starts in."""

    kind: Kind
    tokens_S: np.ndarray  # int32
    line: int


class _Text(NamedTuple):
    """A puzzle as text: its first line, its kind, one character per cell."""

    line: int
    kind: Kind
    characters: str


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """(number of the first line, lines) of every block. A line of spaces is a row of a maze, not an empty line."""
    block: list[str] = []
    for number, line in enumerate([*text.replace("\r", "").split("\n"), ""], start=1):
        if line:
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []


def _is_maze(block: list[str]) -> bool:
    text = "".join(block)
    return sum(text.count(c) for c in "#SG") > sum(c.isdigit() for c in text)


def _sudokus(first: int, block: list[str]) -> Iterator[_Text]:
    """Every Sudoku of a block that starts at line `first`."""
    lines = [(first + i, line.strip()) for i, line in enumerate(block) if line.strip()]
    if len(lines) in BOXES and all(len(line) == len(lines) for _, line in lines):
        yield _Text(first, Sudoku(len(lines)), "".join(line for _, line in lines))
        return
    for number, line in lines:
        if len(line) not in _SUDOKUS:
            raise ValueError(
                f"line {number} has {len(line)} characters, but a Sudoku has 16, 36 or 81 on a line "
                "(or 4, 6 or 9 lines of as many), and a maze has an S and a G"
            )
        yield _Text(number, _SUDOKUS[len(line)], line)


def _mazes(first: int, block: list[str]) -> Iterator[_Text]:
    """Every maze of a block that starts at line `first`."""
    if all("S" in line and "G" in line and isqrt(len(line)) ** 2 == len(line) for line in block):
        for number, line in enumerate(block, start=first):
            yield _Text(number, Maze(isqrt(len(line))), line)
        return
    for number, line in enumerate(block, start=first):
        if len(line) != len(block):
            raise ValueError(
                f"line {number} has {len(line)} characters, but a maze is square, and this one has {len(block)} lines "
                "(if spaces at the end of a line get lost, write . for open cells)"
            )
    yield _Text(first, Maze(len(block)), "".join(block))


def read(text: str) -> list[Puzzle]:
    """All puzzles in a text. They must be of one kind and size.

    Raises:
        ValueError: the text has no puzzle, or a puzzle is wrong. The sentence says where, and what would be right.
    """
    puzzles: list[Puzzle] = []
    many = len(text.strip("\n").split("\n")) > 1
    for first, block in _blocks(text):
        for line, kind, characters in (_mazes if _is_maze(block) else _sudokus)(first, block):
            try:
                puzzles.append(Puzzle(kind, kind.tokens(characters), line))
            except ValueError as error:
                raise ValueError(f"the puzzle in line {line}: {error}" if many else str(error)) from None
            if kind != puzzles[0].kind:
                raise ValueError(
                    f"line {line} is a {kind.name}, but line {puzzles[0].line} a {puzzles[0].kind.name}: "
                    "one run solves puzzles of one kind and size"
                )
    if not puzzles:
        raise ValueError("there is no puzzle in it")
    return puzzles


def read_each(texts: Sequence[str]) -> tuple[Kind, np.ndarray]:
    """The kind and the tokens [N, S] of N texts that hold one puzzle each.

    Raises:
        ValueError: as `read`, or a text holds several puzzles. The sentence names the text.
    """
    puzzles: list[Puzzle] = []
    for number, text in enumerate(texts, start=1):
        try:
            in_text = read(text)
        except ValueError as error:
            raise ValueError(f"puzzle {number}: {error}") from None
        puzzles += in_text
        kind = in_text[0].kind
        if len(in_text) > 1 or kind != puzzles[0].kind:
            content = f"{len(in_text)} puzzles" if len(in_text) > 1 else f"a {kind.name}"
            raise ValueError(f"puzzle {number} is {content}, but each text should hold one {puzzles[0].kind.name}")
    if not puzzles:
        raise ValueError("there are no puzzles to solve")
    return puzzles[0].kind, np.stack([puzzle.tokens_S for puzzle in puzzles])


def read_from(source: str) -> list[Puzzle]:
    """The puzzles that the command line names: a file, standard input ("-"), or the puzzle itself.

    Raises:
        ValueError: as `read`, or there is nothing to read. The sentence names the file.
    """
    if source == "-" and (sys.stdin is None or sys.stdin.isatty()):
        raise ValueError("give a puzzle, a file with puzzles, or puzzles on standard input (--help says more)")
    if os.path.isdir(source):
        raise ValueError(f"{source} is a folder: give a file with puzzles, or a puzzle")
    if source == "-":
        content, origin = sys.stdin.buffer.read(), "standard input: "
    elif os.path.exists(source):  # a file or a pipe
        content, origin = Path(source).read_bytes(), f"{source}: "
    else:
        content, origin = os.fsencode(source), ""
    try:
        return read(content.decode("utf-8-sig", errors="replace"))
    except ValueError as error:
        if not origin and _names_a_file(source):
            raise ValueError(f"there is no file {source}") from None
        if not origin and not _is_board(source):
            origin = f"{source!r} is neither a file nor a puzzle: "
        raise ValueError(f"{origin}{error}") from None


def _names_a_file(word: str) -> bool:
    return not any(c in "\n#" for c in word) and (os.sep in word or Path(word).suffix[1:].isalpha())


def _is_board(word: str) -> bool:
    return "\n" in word or len(word) in _SUDOKUS and sum(c in " .#0123456789" for c in word) > len(word) / 2
