"""Reading puzzles: one or many Sudokus or mazes from text, with errors that say where.

Empty lines part blocks. A block is one puzzle with a row a line, or several with a puzzle a line.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataset import maze, sudoku
from dataset.boards import Kind, Maze, Sudoku, cells

_LENGTHS = {size * size: size for size in sudoku.BOXES}


class Written(NamedTuple):
    """A puzzle as it was written, and the line that it began in."""

    kind: Kind
    tokens_S: np.ndarray  # int32
    line: int


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """(number of the first line, lines) between empty lines. A line of spaces is a row of a maze."""
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


def _tokens(text: str, alphabet: dict[str, int], size: int, allowed: str) -> np.ndarray:
    for place, character in enumerate(text):
        if character not in alphabet:
            raise ValueError(f"{cells(np.array([place]), size)} is {character!r}, but should be {allowed}")
    return np.array([alphabet[character] for character in text], np.int32)


def _sudoku(text: str) -> tuple[Kind, np.ndarray]:
    kind = Sudoku(_LENGTHS[len(text)])
    alphabet = {".": 1, "0": 1, **{digit: int(digit) + 1 for digit in kind.digits}}
    tokens_S = _tokens(text, alphabet, kind.size, f"one of {kind.digits}, or . for a blank")
    clashes = sudoku.clashes(tokens_S - 1)
    if len(clashes):
        raise ValueError(f"the clues clash: digits stand twice in a row, column or box at {cells(clashes, kind.size)}")
    return kind, tokens_S


def _maze(text: str) -> tuple[Kind, np.ndarray]:
    kind = Maze(isqrt(len(text)))
    alphabet = {"#": maze.WALL, " ": maze.OPEN, ".": maze.OPEN, "S": maze.START, "G": maze.GOAL}
    tokens_S = _tokens(text, alphabet, kind.size, "# for a wall, a space or . for an open cell, S or G")
    starts, goals = text.count("S"), text.count("G")
    if (starts, goals) != (1, 1):
        raise ValueError(f"a maze needs one S (start) and one G (goal), but this has {starts} and {goals}")
    return kind, tokens_S


def _sudokus(first: int, block: list[str]) -> Iterator[tuple[int, str]]:
    """(line, characters) of every Sudoku in a block."""
    lines = [(first + i, line.strip()) for i, line in enumerate(block) if line.strip()]
    if len(lines) in sudoku.BOXES and all(len(line) == len(lines) for _, line in lines):
        yield first, "".join(line for _, line in lines)
        return
    for number, line in lines:
        if len(line) not in _LENGTHS:
            raise ValueError(
                f"line {number} has {len(line)} characters, but a Sudoku has 16, 36 or 81 on a line "
                "(or 4, 6 or 9 lines of as many), and a maze has an S and a G"
            )
        yield number, line


def _mazes(first: int, block: list[str]) -> Iterator[tuple[int, str]]:
    """(line, characters) of every maze in a block."""
    if all("S" in line and "G" in line and isqrt(len(line)) ** 2 == len(line) for line in block):
        yield from enumerate(block, start=first)  # one a line
        return
    for number, line in enumerate(block, start=first):
        if len(line) != len(block):
            raise ValueError(
                f"line {number} has {len(line)} characters, but a maze is square, and this one has {len(block)} lines "
                "(where spaces at the end of a line are lost, write . for open cells)"
            )
    yield first, "".join(block)


def read(text: str) -> list[Written]:
    """All puzzles in a text, which must be of one kind and size.

    Raises:
        ValueError: one sentence: there are none, or the first that is wrong, where, and what would be right.
    """
    found: list[Written] = []
    many = len(text.strip("\n").split("\n")) > 1
    for first, block in _blocks(text):
        split, parse = (_mazes, _maze) if _is_maze(block) else (_sudokus, _sudoku)
        for line, characters in split(first, block):
            try:
                found.append(Written(*parse(characters), line))
            except ValueError as error:
                raise ValueError(f"the puzzle in line {line}: {error}" if many else str(error)) from None
            if found[-1].kind != found[0].kind:
                raise ValueError(
                    f"line {line} is a {found[-1].kind.name}, but line {found[0].line} a {found[0].kind.name}: "
                    "one run solves puzzles of one kind and size"
                )
    if not found:
        raise ValueError("there is no puzzle in it")
    return found


def read_each(texts: Sequence[str]) -> tuple[Kind, np.ndarray]:
    """The kind and the tokens [N, S] of texts that hold one puzzle each.

    Raises:
        ValueError: one sentence, as `read`, or that a text holds several puzzles.
    """
    puzzles: list[Written] = []
    for number, text in enumerate(texts, start=1):
        try:
            found = read(text)
        except ValueError as error:
            raise ValueError(f"puzzle {number}: {error}") from None
        puzzles += found
        if len(found) > 1 or found[0].kind != puzzles[0].kind:
            told = f"{len(found)} puzzles" if len(found) > 1 else f"a {found[0].kind.name}"
            raise ValueError(f"puzzle {number} is {told}, but each text should hold one {puzzles[0].kind.name}")
    if not puzzles:
        raise ValueError("there are no puzzles to solve")
    return puzzles[0].kind, np.stack([puzzle.tokens_S for puzzle in puzzles])


def read_from(word: str) -> list[Written]:
    """The puzzles that a word of the command line stands for: a file's, those on standard input ("-"), or its own.

    Raises:
        ValueError: one sentence, as `read`.
    """
    if word == "-" and (sys.stdin is None or sys.stdin.isatty()):
        raise ValueError("give a puzzle, a file with puzzles, or puzzles on standard input (--help says more)")
    if os.path.isdir(word):
        raise ValueError(f"{word} is a folder: give a file with puzzles, or a puzzle")
    is_file = os.path.exists(word)  # or a pipe
    content = sys.stdin.buffer.read() if word == "-" else Path(word).read_bytes() if is_file else os.fsencode(word)
    try:
        return read(content.decode("utf-8-sig", errors="replace"))
    except ValueError as error:
        if word == "-" or is_file:
            origin = f"{'standard input' if word == '-' else word}: "
        else:
            if not any(c in "\n#" for c in word) and (os.sep in word or Path(word).suffix[1:].isalpha()):
                raise ValueError(f"there is no file {word}") from None
            is_board = "\n" in word or len(word) in _LENGTHS and sum(c in " .#0123456789" for c in word) > len(word) / 2
            origin = "" if is_board else f"{word!r} is neither a file nor a puzzle: "
        raise ValueError(f"{origin}{error}") from None
