"""Reads puzzles from text: one or many Sudokus or mazes, with errors that name the place.

Empty lines separate blocks. A block is one board, a row per line, or several, one per line. What a line may look like
is the matter of `dataset.sudoku_text` and `dataset.maze_text`.
"""

import csv
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np

from config import text as text_of
from dataset.boards import Kind, Maze, Sudoku
from dataset.csv_puzzles import DELIMITERS, column
from dataset.maze_text import is_maze, mazes
from dataset.sudoku_line import WHOLE, Is, is_long, read_line
from dataset.sudoku_text import Board, Line, Unfinished, sudokus

_SECTION = re.compile(r"\s*\[(\w+)\]\s*")
_NOT_ASKED = {"state", "pencilmarks", "candidates", "solution", "solutions"}
"""Sections of an .sdk file that are not the puzzle."""


class Puzzle(NamedTuple):
    """A puzzle and the line of the text that it starts in."""

    kind: Kind
    tokens_S: np.ndarray  # int32
    line: int


class _Found(NamedTuple):
    kind: type[Maze] | type[Sudoku]
    board: Board


def puzzles(lines: Iterable[str], at_once: bool = False, many: bool = True) -> Iterator[Puzzle]:
    """Yields the puzzles of a text, all of one kind and size.

    Args:
        lines: of the text, without their ends.
        at_once: whether to yield a puzzle as soon as its last line is there. Else only whole blocks are looked at.
        many: whether a sentence about a wrong puzzle should say in which line it starts.

    Raises:
        ValueError: a puzzle is wrong, or there is none. The sentence says where, and what would be right.
    """
    first: Puzzle | None = None
    for kind_of, (line, cells) in _boards(lines, at_once):
        kind = kind_of(isqrt(len(cells)))
        try:
            puzzle = Puzzle(kind, kind.tokens(cells), line)
        except ValueError as error:
            hint = "; 16x16 Sudokus are not known" if kind == Sudoku(4) and re.search("[5-9A-Ga-g]", cells) else ""
            raise ValueError(f"the puzzle in line {line}: {error}{hint}" if many else f"{error}{hint}") from None
        first = first or puzzle
        if kind != first.kind:
            raise ValueError(
                f"line {line} is a {kind.name}, but line {first.line} a {first.kind.name}: "
                "one run solves puzzles of one kind and size"
            )
        yield puzzle
    if first is None:
        raise ValueError("there is no puzzle in it; a Sudoku has 16, 36 or 81 cells, and a maze has an S and a G")


def _boards(lines: Iterable[str], at_once: bool) -> Iterator[_Found]:
    numbered = _relevant(enumerate(lines, start=1))
    begin = next(((number, text) for number, text in numbered if text.strip()), None)
    if begin is None:
        return
    for delimiter in DELIMITERS:
        fields = begin[1].split(delimiter)
        if len(fields) > 1 and (index := column(fields, "question")) is not None:
            yield from _csv(begin[0], numbered, delimiter, len(fields), index)
            return
    yield from _blocks(chain([begin], numbered), at_once)


def _relevant(lines: Iterable[Line]) -> Iterator[Line]:
    """The lines without sections that are not the puzzle."""
    asked = True
    for number, text in lines:
        section = _SECTION.fullmatch(text)
        asked = section[1].lower() not in _NOT_ASKED if section else asked
        if asked:
            yield number, text


def _csv(header: int, lines: Iterator[Line], delimiter: str, columns: int, index: int) -> Iterator[_Found]:
    """The board in the column of questions of every row. The header is the line of this number."""
    rows = csv.reader((text + "\n" for _, text in lines), delimiter=delimiter)
    for fields in filter(None, rows):
        number = header + rows.line_num
        if len(fields) != columns:
            raise ValueError(f"line {number} has {len(fields)} columns instead of {columns}")
        found = list(_blocks([(number, text) for text in fields[index].split("\n")], at_once=False))
        if len(found) != 1:
            raise ValueError(f"line {number} has {len(found)} puzzles in column {index + 1} instead of one")
        yield found[0]._replace(board=found[0].board._replace(line=number))


def _blocks(lines: Iterable[Line], at_once: bool) -> Iterator[_Found]:
    """The boards of lines. An empty line ends a block; the bands of a Sudoku may be blocks of their own."""
    pending: list[Line] = []
    for number, text in lines:
        if not text and not (pending and pending[-1][1]):
            continue  # one empty line is as good as many
        pending.append((number, text))
        found: list[_Found] = []
        try:
            if not text or at_once and _may_end_a_board(text):
                found = _parse(pending, block_ends=not text, ends=False)
        except Unfinished:
            continue
        except ValueError:
            if not text or is_long(text) and not is_maze(pending):
                raise
        yield from found
        if found or not text:
            pending = []
    yield from _parse(pending, block_ends=True, ends=True)


def _may_end_a_board(text: str) -> bool:
    return read_line(0, text).what in (Is.WHOLE, Is.ROW) or is_long(text) or is_maze([(0, text)])


def _parse(lines: Sequence[Line], block_ends: bool, ends: bool) -> list[_Found]:
    """The boards of blocks: mazes, or Sudokus whose bands are blocks.

    Raises ValueError as `mazes` and `sudokus` do.
    """
    if is_maze(lines):
        return [_Found(Maze, board) for board in mazes([line for line in lines if line[1]], block_ends)]
    return [_Found(Sudoku, board) for board in sudokus(lines, ends)]


def read(text: str) -> list[Puzzle]:
    """All puzzles in a text. Raises ValueError as `puzzles` does."""
    lines = text_of.split(text)
    return list(puzzles(lines, many=len(text.strip("\r\n").splitlines()) > 1))


def read_each(texts: Sequence[str]) -> tuple[Kind, np.ndarray]:
    """The kind and the tokens [N, S] of N texts that hold one puzzle each.

    Raises:
        ValueError: as `read`, or a text holds several puzzles. The sentence names the text.
    """
    found: list[Puzzle] = []
    for number, text in enumerate(texts, start=1):
        try:
            in_text = read(text)
        except ValueError as error:
            raise ValueError(f"puzzle {number}: {error}") from None
        found += in_text
        kind = in_text[0].kind
        if len(in_text) > 1 or kind != found[0].kind:
            content = f"{len(in_text)} puzzles" if len(in_text) > 1 else f"a {kind.name}"
            raise ValueError(f"puzzle {number} is {content}, but each text should hold one {found[0].kind.name}")
    if not found:
        raise ValueError("there are no puzzles to solve")
    return found[0].kind, np.stack([puzzle.tokens_S for puzzle in found])


def read_from(source: str) -> list[Puzzle]:
    """The puzzles that the command line names: a file, standard input ("-"), or the puzzle itself.

    Raises:
        ValueError: as `read`, or there is nothing to read. The sentence names the file.
    """
    if source == "-":
        return list(as_they_come())
    if os.path.isdir(source):
        raise ValueError(f"{source} is a folder: give a file with puzzles, or a puzzle")
    if os.path.exists(source):  # a file or a pipe
        content, origin = Path(source).read_bytes(), f"{source}: "
    else:
        content, origin = os.fsencode(source), ""
    try:
        return read(text_of.decode(content))
    except ValueError as error:
        if not origin and _names_a_file(source):
            raise ValueError(f"there is no file {source}") from None
        if not origin and not _is_board(source):
            origin = f"{source!r} is neither a file nor a puzzle: "
        raise ValueError(f"{origin}{error}") from None


def as_they_come() -> Iterator[Puzzle]:
    """Yields the puzzles of standard input, each as soon as its last line is there. Raises ValueError as `read_from`.

    A maze of several lines ends with an empty line. A line that may begin a larger board waits for the next one.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError("give a puzzle, a file with puzzles, or puzzles on standard input (--help says more)")
    try:
        yield from puzzles(text_of.lines(sys.stdin.buffer), at_once=True)
    except ValueError as error:
        raise ValueError(f"standard input: {error}") from None


def _names_a_file(word: str) -> bool:
    return not any(c in "\n#" for c in word) and (os.sep in word or Path(word).suffix[1:].isalpha())


def _is_board(word: str) -> bool:
    return "\n" in word or len(word) in WHOLE and sum(c in " .#0123456789" for c in word) > len(word) / 2
