"""Sudokus and mazes as people write them: text to tokens and back, and the rules. No model takes part.

Shapes: N boards of S tokens; a board is n x n cells in reading order. Tokens are those of the data sets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import ClassVar, Protocol

import numpy as np

from dataset import maze, sudoku

Mark = Callable[[int, str], str]
"""(cell, character) -> the text to draw in this cell."""


def plain(_: int, character: str) -> str:
    """Draws every cell as its character."""
    return character


class Kind(Protocol):
    """The rules of a kind of puzzle, and its form as text, for one board size n."""

    @property
    def size(self) -> int: ...

    @property
    def name(self) -> str:
        """As in "this is a 9x9 Sudoku"."""
        ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def needs_one_solution(self) -> bool:
        """Whether a proper puzzle has a single solution. If not, any solution is right."""
        ...

    @property
    def no_solution(self) -> str:
        """Why a puzzle has no solution, in a few words."""
        ...

    @property
    def several_solutions(self) -> str:
        """What several solutions mean for an answer, in a few words."""
        ...

    def tokens(self, characters: str) -> np.ndarray:
        """The tokens [S] int32 of a puzzle, read from one character per cell.

        Raises:
            ValueError: a character has no meaning, or the puzzle breaks the rules.
        """
        ...

    def characters(self, tokens_S: np.ndarray) -> str:
        """One character per cell; ? for a token that no board of this kind has."""
        ...

    def text(self, tokens_S: np.ndarray) -> str:
        """The board as users type it."""
        ...

    def drawn(self, tokens_S: np.ndarray, mark: Mark = plain) -> str:
        """The board as a picture for the terminal."""
        ...

    def solutions(self, puzzle_S: np.ndarray) -> int:
        """The number of solutions, counted up to 2."""
        ...

    def fault(self, puzzle_S: np.ndarray, answer_S: np.ndarray) -> str | None:
        """How an answer breaks the rules, in a few words; None if it is right."""
        ...


def cell_names(cells: np.ndarray, size: int) -> str:
    """Names the first three of some cells, as in "row 1 column 2"."""
    names = [f"row {cell // size + 1} column {cell % size + 1}" for cell in cells[:3].tolist()]
    return ", ".join(names) + (f" and {len(cells) - 3} more" if len(cells) > 3 else "")


def _tokens(characters: str, alphabet: dict[str, int], size: int, allowed: str) -> np.ndarray:
    for cell, character in enumerate(characters):
        if character not in alphabet:
            raise ValueError(f"{cell_names(np.array([cell]), size)} is {character!r}, but should be {allowed}")
    return np.array([alphabet[character] for character in characters], np.int32)


def _characters(tokens_S: np.ndarray, alphabet: str) -> str:
    return "".join(alphabet[token] if 0 <= token < len(alphabet) else "?" for token in tokens_S)


@dataclass(frozen=True)
class Sudoku:
    """A Sudoku of size 4, 6 or 9. Users type digits in reading order, and . or 0 for a blank."""

    size: int
    needs_one_solution: ClassVar[bool] = True
    no_solution: ClassVar[str] = "no filling keeps all its clues"
    several_solutions: ClassVar[str] = "several solutions, so none is the right one"

    @property
    def name(self) -> str:
        return f"{self.size}x{self.size} Sudoku"

    @property
    def vocab_size(self) -> int:
        return self.size + 2

    @property
    def digits(self) -> str:
        """The digits that a cell may hold."""
        return "123456789"[: self.size]

    def tokens(self, characters: str) -> np.ndarray:
        alphabet = {".": 1, "0": 1, **{digit: int(digit) + 1 for digit in self.digits}}
        tokens_S = _tokens(characters, alphabet, self.size, f"one of {self.digits}, or . for a blank")
        clashes = sudoku.clashes(tokens_S - 1)
        if len(clashes):
            cells = cell_names(clashes, self.size)
            raise ValueError(f"the clues clash: digits stand twice in a row, column or box at {cells}")
        return tokens_S

    def characters(self, tokens_S: np.ndarray) -> str:
        return _characters(tokens_S, "?." + self.digits)

    def text(self, tokens_S: np.ndarray) -> str:
        return self.characters(tokens_S)

    def drawn(self, tokens_S: np.ndarray, mark: Mark = plain) -> str:
        rows, columns = sudoku.BOXES[self.size]
        marked = [mark(cell, character) for cell, character in enumerate(self.characters(tokens_S))]
        lines = []
        for row in range(self.size):
            if row and row % rows == 0:
                lines.append("-" * (2 * self.size + 2 * (self.size // columns - 1) - 1))
            first = row * self.size
            boxes = [marked[box : box + columns] for box in range(first, first + self.size, columns)]
            lines.append(" | ".join(" ".join(box) for box in boxes))
        return "\n".join(lines)

    def solutions(self, puzzle_S: np.ndarray) -> int:
        return sudoku.count_solutions(puzzle_S.astype(int) - 1, 2)

    def fault(self, puzzle_S: np.ndarray, answer_S: np.ndarray) -> str | None:
        empty = np.flatnonzero((answer_S < 2) | (answer_S > self.size + 1))
        if len(empty):
            return f"there is no digit at {cell_names(empty, self.size)}"
        changed_clues = np.flatnonzero((puzzle_S > 1) & (answer_S != puzzle_S))
        if len(changed_clues):
            return f"it changes clues at {cell_names(changed_clues, self.size)}"
        clashes = sudoku.clashes(answer_S.astype(int) - 1)
        if len(clashes):
            return f"digits stand twice at {cell_names(clashes, self.size)}"
        return None


@dataclass(frozen=True)
class Maze:
    """A maze: # is a wall, a space or . is open, S the start, G the goal. Answers mark the path with o."""

    size: int
    needs_one_solution: ClassVar[bool] = False
    no_solution: ClassVar[str] = "no open way leads from S to G"
    several_solutions: ClassVar[str] = "one of several shortest paths"

    @property
    def name(self) -> str:
        return f"{self.size}x{self.size} maze"

    @property
    def vocab_size(self) -> int:
        return maze.VOCAB_SIZE

    def tokens(self, characters: str) -> np.ndarray:
        alphabet = {"#": maze.WALL, " ": maze.OPEN, ".": maze.OPEN, "S": maze.START, "G": maze.GOAL}
        tokens_S = _tokens(characters, alphabet, self.size, "# for a wall, a space or . for an open cell, S or G")
        starts, goals = characters.count("S"), characters.count("G")
        if (starts, goals) != (1, 1):
            raise ValueError(f"a maze needs one S (start) and one G (goal), but this has {starts} and {goals}")
        return tokens_S

    def characters(self, tokens_S: np.ndarray) -> str:
        return _characters(tokens_S, "?" + maze.CHARACTERS)

    def text(self, tokens_S: np.ndarray) -> str:
        return self.drawn(tokens_S)

    def drawn(self, tokens_S: np.ndarray, mark: Mark = plain) -> str:
        marked = [mark(cell, character) for cell, character in enumerate(self.characters(tokens_S))]
        return "\n".join("".join(marked[row : row + self.size]) for row in range(0, len(marked), self.size))

    def solutions(self, puzzle_S: np.ndarray) -> int:
        grid, start, goal = maze.ends(puzzle_S)
        search = maze.search(grid, start)
        if goal not in search.parent:
            return 0
        return 1 if maze.is_only_shortest(grid, search, search.path(goal)) else 2

    def fault(self, puzzle_S: np.ndarray, answer_S: np.ndarray) -> str | None:
        marked_S = (answer_S == maze.PATH) & (puzzle_S == maze.OPEN)
        changed = np.flatnonzero((answer_S != puzzle_S) & ~marked_S)
        if len(changed):
            return f"it changes the maze at {cell_names(changed, self.size)}"
        ends_S = (puzzle_S == maze.START) | (puzzle_S == maze.GOAL)
        corridor_S = np.where(marked_S, maze.OPEN, np.where(ends_S, puzzle_S, maze.WALL))
        if maze.shortest_answer(corridor_S) is None:
            return "the marked cells do not lead from S to G"
        shortest_S = maze.shortest_answer(puzzle_S)
        assert shortest_S is not None
        shortest = int((shortest_S == maze.PATH).sum())
        if marked_S.sum() != shortest:
            return f"{int(marked_S.sum())} cells are marked, but a shortest path from S to G has {shortest}"
        return None


def are_alike(seq_len: int, vocab_size: int) -> bool:
    """Whether boards of several kinds have so many cells and tokens: 4x4 Sudokus and mazes."""
    kinds: tuple[Kind, ...] = (Sudoku(4), Maze(4))
    return all((kind.size**2, kind.vocab_size) == (seq_len, vocab_size) for kind in kinds)


def kind_of(inputs_NS: np.ndarray, labels_NS: np.ndarray, vocab_size: int) -> Kind | None:
    """The kind of the boards in a data set; None if they are neither Sudokus nor mazes.

    4x4 Sudokus and 4x4 mazes have the same vocabulary. If the questions fit both, the first answer decides.
    """
    size = isqrt(inputs_NS.shape[1])
    if size * size != inputs_NS.shape[1] or not len(inputs_NS):
        return None
    as_sudoku = Sudoku(size) if size in sudoku.BOXES and vocab_size == size + 2 else None
    if not maze.are_mazes(inputs_NS, vocab_size):
        return as_sudoku
    as_maze = Maze(size)
    return as_sudoku if as_sudoku and as_maze.fault(inputs_NS[0], labels_NS[0]) else as_maze
