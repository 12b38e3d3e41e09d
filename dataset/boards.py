"""Boards: puzzles as people write them, and what the rules say about an answer. No model has a part in this.

Shapes: S tokens of a board of n x n cells, in reading order; tokens as in the data sets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dataset import maze, sudoku

Mark = Callable[[int, str], str]
"""(place, character) -> what stands there on a drawn board"""


def plain(_: int, character: str) -> str:
    """A mark that leaves every cell as it is."""
    return character


class Kind(Protocol):
    """A kind of puzzle, of one size n."""

    @property
    def size(self) -> int: ...

    @property
    def name(self) -> str:
        """As in "this is a 9x9 Sudoku"."""
        ...

    @property
    def vocab_size(self) -> int: ...

    def characters(self, tokens_S: np.ndarray) -> str:
        """A character for every cell; ? for a token that no board of this kind has."""
        ...

    def text(self, tokens_S: np.ndarray) -> str:
        """A board as it may be read back (`solving.reading`)."""
        ...

    def drawn(self, tokens_S: np.ndarray, mark: Mark = plain) -> str:
        """A board to look at."""
        ...

    def solutions(self, puzzle_S: np.ndarray) -> int:
        """How many answers a puzzle has, counted up to 2."""
        ...

    def fault(self, puzzle_S: np.ndarray, answer_S: np.ndarray) -> str | None:
        """What the rules hold against an answer, in a few words; None if it is right."""
        ...


def cells(places: np.ndarray, size: int) -> str:
    """The first of some places in words."""
    names = [f"row {place // size + 1} column {place % size + 1}" for place in places[:3].tolist()]
    return ", ".join(names) + (f" and {len(places) - 3} more" if len(places) > 3 else "")


@dataclass(frozen=True)
class Sudoku:
    """A Sudoku of size 4, 6 or 9; written as digits in reading order, with . or 0 for a blank."""

    size: int

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

    def characters(self, tokens_S: np.ndarray) -> str:
        alphabet = "?." + self.digits
        return "".join(alphabet[token] if 0 <= token < len(alphabet) else "?" for token in tokens_S)

    def text(self, tokens_S: np.ndarray) -> str:
        return self.characters(tokens_S)

    def drawn(self, tokens_S: np.ndarray, mark: Mark = plain) -> str:
        rows, columns = sudoku.BOXES[self.size]
        shown = [mark(place, character) for place, character in enumerate(self.characters(tokens_S))]
        lines = []
        for row in range(self.size):
            if row and row % rows == 0:
                lines.append("-" * (2 * self.size + 2 * (self.size // columns - 1) - 1))
            first = row * self.size
            boxes = [shown[box : box + columns] for box in range(first, first + self.size, columns)]
            lines.append(" | ".join(" ".join(box) for box in boxes))
        return "\n".join(lines)

    def solutions(self, puzzle_S: np.ndarray) -> int:
        return sudoku.count_solutions(puzzle_S.astype(int) - 1, 2)

    def fault(self, puzzle_S: np.ndarray, answer_S: np.ndarray) -> str | None:
        empty = np.flatnonzero((answer_S < 2) | (answer_S > self.size + 1))
        if len(empty):
            return f"there is no digit at {cells(empty, self.size)}"
        lost = np.flatnonzero((puzzle_S > 1) & (answer_S != puzzle_S))
        if len(lost):
            return f"it changes clues at {cells(lost, self.size)}"
        clashes = sudoku.clashes(answer_S.astype(int) - 1)
        if len(clashes):
            return f"digits stand twice at {cells(clashes, self.size)}"
        return None


@dataclass(frozen=True)
class Maze:
    """A maze of n x n cells; # is a wall, a space (or .) is open, S the start, G the goal, o the answer's path."""

    size: int

    @property
    def name(self) -> str:
        return f"{self.size}x{self.size} maze"

    @property
    def vocab_size(self) -> int:
        return maze.VOCAB_SIZE

    def characters(self, tokens_S: np.ndarray) -> str:
        alphabet = "?" + maze.CHARACTERS
        return "".join(alphabet[token] if 0 <= token < len(alphabet) else "?" for token in tokens_S)

    def text(self, tokens_S: np.ndarray) -> str:
        characters = self.characters(tokens_S)
        return "\n".join(characters[row : row + self.size] for row in range(0, len(characters), self.size))

    def drawn(self, tokens_S: np.ndarray, mark: Mark = plain) -> str:
        shown = [mark(place, character) for place, character in enumerate(self.characters(tokens_S))]
        return "\n".join("".join(shown[row : row + self.size]) for row in range(0, len(shown), self.size))

    def solutions(self, puzzle_S: np.ndarray) -> int:
        grid, start, goal = maze.ends(puzzle_S)
        found = maze.search(grid, start)
        if goal not in found.parent:
            return 0
        return 1 if maze.is_only_shortest(grid, found, found.path(goal)) else 2

    def fault(self, puzzle_S: np.ndarray, answer_S: np.ndarray) -> str | None:
        marked_S = (answer_S == maze.PATH) & (puzzle_S == maze.OPEN)
        changed = np.flatnonzero((answer_S != puzzle_S) & ~marked_S)
        if len(changed):
            return f"it changes the maze at {cells(changed, self.size)}"
        ends_S = (puzzle_S == maze.START) | (puzzle_S == maze.GOAL)
        corridor_S = np.where(marked_S, maze.OPEN, np.where(ends_S, puzzle_S, maze.WALL))
        if maze.shortest_answer(corridor_S) is None:
            return "the marked cells do not lead from S to G"
        shortest_S = maze.shortest_answer(puzzle_S)
        assert shortest_S is not None
        needed = int((shortest_S == maze.PATH).sum())
        if marked_S.sum() != needed:
            return f"{int(marked_S.sum())} cells are marked, but a shortest path from S to G has {needed}"
        return None
