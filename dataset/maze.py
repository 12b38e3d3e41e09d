"""Mazes: a square board of walls with a start and a goal; the answer marks a shortest path between the two.

A board is S = n * n tokens in reading order. Searches run on a `Grid`, the board inside a border of walls, so
that a step off the board needs no test of its own. A distance counts steps: neighbouring cells are 1 apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt

import numpy as np

CHARACTERS = "# SGo"  # tokens 1 to 5; token 0 is padding
WALL, OPEN, START, GOAL, PATH = range(1, 6)
VOCAB_SIZE = len(CHARACTERS) + 1

Draw = Callable[[int], int]  # Draw(n): uniform on 0 to n - 1


@dataclass(frozen=True)
class Grid:
    """The open cells of an n x n board: cells[(row + 1) * (n + 2) + column + 1] is 1 where a cell is open."""

    size: int  # n
    cells: bytearray  # (n + 2) * (n + 2)

    @property
    def steps(self) -> tuple[int, int, int, int]:
        """Add one to a cell to go down, up, right or left; every search looks around in this order."""
        return self.size + 2, -self.size - 2, 1, -1

    def position(self, cell: int) -> int:
        """Where a cell stands on the board, 0 to n * n - 1."""
        row, column = divmod(cell, self.size + 2)
        return (row - 1) * self.size + column - 1

    def cell(self, position: int) -> int:
        """The inverse of `position`."""
        row, column = divmod(position, self.size)
        return (row + 1) * (self.size + 2) + column + 1

    def board(self) -> np.ndarray:
        """The tokens [S] uint8: walls and open cells, no start and no goal."""
        bordered = np.frombuffer(self.cells, np.uint8).reshape(self.size + 2, self.size + 2)
        return bordered[1:-1, 1:-1].reshape(-1) + np.uint8(WALL)


def grid_of(open_S: np.ndarray) -> Grid:
    """The grid of a board given as one truth value a cell; raises ValueError if the board is not square."""
    size = isqrt(open_S.size)
    if size * size != open_S.size:
        raise ValueError(f"a maze of {open_S.size} cells is not square")
    return Grid(size, bytearray(np.pad(open_S.reshape(size, size), 1).astype(np.uint8).tobytes()))


@dataclass(frozen=True)
class Search:
    """What a breadth-first search found: levels[d] are the cells d steps from the start, in the order met."""

    levels: list[list[int]]
    parent: dict[int, int]  # the cell from which each was met; the start has none

    def path(self, goal: int) -> list[int]:
        """A shortest path from the start to `goal`, both included."""
        path = [goal]
        while path[-1] in self.parent:
            path.append(self.parent[path[-1]])
        return path[::-1]


def search(grid: Grid, start: int, depth: int | None = None) -> Search:
    """Search everything within `depth` steps of the start, or all that can be reached. O(S)."""
    steps, unmet = grid.steps, grid.cells.copy()
    unmet[start] = 0
    levels: list[list[int]] = []
    parent: dict[int, int] = {}
    level = [start]
    while level and (depth is None or len(levels) <= depth):
        levels.append(level)
        level = []
        for cell in levels[-1]:
            for step in steps:
                near = cell + step
                if unmet[near]:
                    unmet[near] = 0
                    parent[near] = cell
                    level.append(near)
    return Search(levels, parent)


def is_only_shortest(grid: Grid, found: Search, path: list[int]) -> bool:
    """Whether no other path is as short as this shortest one: no cell of it has two ways one step back."""
    for level, cell in zip(found.levels, path[1:], strict=False):
        if len({cell + step for step in grid.steps} & set(level)) > 1:
            return False
    return True


def ends(question_S: np.ndarray) -> tuple[Grid, int, int]:
    """The grid of a maze, and the cells of its start and its goal.

    Raises ValueError if the question is not a square board with one start and one goal.
    """
    grid = grid_of(np.isin(question_S, (OPEN, START, GOAL)))
    starts, goals = np.flatnonzero(question_S == START), np.flatnonzero(question_S == GOAL)
    if len(starts) != 1 or len(goals) != 1:
        raise ValueError(f"a maze needs one start and one goal, not {len(starts)} and {len(goals)}")
    return grid, grid.cell(int(starts[0])), grid.cell(int(goals[0]))


def shortest_answer(question_S: np.ndarray) -> np.ndarray | None:
    """Solve a maze: its tokens with a shortest path marked, or None if the goal cannot be reached.

    Raises ValueError if the question is not a square board with one start and one goal.
    """
    grid, start, goal = ends(question_S)
    found = search(grid, start)
    if goal not in found.parent:
        return None
    answer_S = question_S.copy()
    answer_S[[grid.position(cell) for cell in found.path(goal)[1:-1]]] = PATH
    return answer_S


def distances(question_S: np.ndarray) -> np.ndarray:
    """How many steps each cell is from the start [S] int32; -1 where it cannot be reached.

    Raises ValueError if the question is not a square board with one start and one goal.
    """
    grid, start, _ = ends(question_S)
    steps_S = np.full(question_S.size, -1, np.int32)
    for steps, level in enumerate(search(grid, start).levels):
        steps_S[[grid.position(cell) for cell in level]] = steps
    return steps_S


def is_valid_answer(question_S: np.ndarray, answer_S: np.ndarray, distances_S: np.ndarray | None = None) -> bool:
    """Whether the answer is the question with a shortest path marked from start to goal, and nothing else.

    `distances_S` are those of the question, where they are known. Raises ValueError if the question is not a
    square board with one start and one goal.
    """
    steps_S = distances(question_S) if distances_S is None else distances_S
    if answer_S.shape != question_S.shape:
        return False
    marked_S = answer_S == PATH
    if (question_S[marked_S] != OPEN).any() or (answer_S != question_S)[~marked_S].any():
        return False
    cells = np.flatnonzero(marked_S | (question_S == START) | (question_S == GOAL))
    path = cells[np.argsort(steps_S[cells])]
    rows, columns = np.divmod(path, isqrt(question_S.size))
    touching = (abs(np.diff(rows)) + abs(np.diff(columns)) == 1).all()
    return bool(touching and question_S[path[-1]] == GOAL and (steps_S[path] == np.arange(len(path))).all())


def integers(rng: np.random.Generator) -> Draw:
    """`rng.integers(n)` for 0 < n < 2**32: the same numbers from the same stream, in a third of the time.

    Lemire's unbiased multiplication (arXiv:1805.10941), as numpy does it: 32 bits a draw, none for n = 1.
    Other draws from `rng` may come between.
    """
    bits = rng.bit_generator.ctypes
    next_uint32, state = bits.next_uint32, bits.state

    def draw(n: int, _owner: np.random.Generator = rng) -> int:  # the default keeps the state's owner alive
        if n == 1:
            return 0
        product = next_uint32(state) * n
        if product & 0xFFFFFFFF < n:
            while product & 0xFFFFFFFF < (1 << 32) % n:
                product = next_uint32(state) * n
        return product >> 32

    return draw


def carve(size: int, draw: Draw) -> Grid:
    """A perfect maze (any two cells joined by one path), carved depth first out of the largest odd square."""
    grid = Grid(size, bytearray((size + 2) ** 2))
    steps, rooms = grid.steps, (size - 1) // 2
    unmet = bytearray(len(grid.cells))
    for row in range(rooms):
        for column in range(rooms):
            unmet[grid.cell((2 * row + 1) * size + 2 * column + 1)] = 1
    row, column = draw(rooms), draw(rooms)
    trail = [grid.cell((2 * row + 1) * size + 2 * column + 1)]
    unmet[trail[0]], grid.cells[trail[0]] = 0, 1
    while trail:
        cell = trail[-1]
        ways = [step for step in steps if unmet[cell + 2 * step]]
        if not ways:
            trail.pop()
            continue
        step = ways[draw(len(ways))]
        room = cell + 2 * step
        grid.cells[cell + step] = grid.cells[room] = 1
        unmet[room] = 0
        trail.append(room)
    return grid


def scatter(size: int, wall_prob: float, rng: np.random.Generator) -> Grid:
    """Every cell a wall with probability `wall_prob`, independently."""
    return grid_of(rng.random(size * size) >= wall_prob)
