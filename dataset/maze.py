"""Mazes: a square board of walls with a start and a goal. The answer marks a shortest path between the two.

A board is S = n * n tokens in reading order. Searches run on a `Grid`, the board inside a border of walls, and so
never step off the board. Distances count steps: neighbouring cells are 1 apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt

import numpy as np

CHARACTERS = "# SGo"  # tokens 1 to 5; token 0 is padding
WALL, OPEN, START, GOAL, PATH = range(1, 6)
VOCAB_SIZE = len(CHARACTERS) + 1

Draw = Callable[[int], int]
"""Draw(n) is uniform on 0 to n - 1."""


@dataclass(frozen=True)
class Grid:
    """An n x n board inside a border of walls: cells[(row + 1) * (n + 2) + column + 1] is 1 for an open cell."""

    size: int  # n
    cells: bytearray  # (n + 2) * (n + 2)

    @property
    def steps(self) -> tuple[int, int, int, int]:
        """Numbers to add to a cell to go down, up, right or left. Every search looks around in this order."""
        return self.size + 2, -self.size - 2, 1, -1

    def position(self, cell: int) -> int:
        """The position of a cell on the board in reading order, 0 to n * n - 1."""
        row, column = divmod(cell, self.size + 2)
        return (row - 1) * self.size + column - 1

    def cell(self, position: int) -> int:
        """The cell at a position: the inverse of `position`."""
        row, column = divmod(position, self.size)
        return (row + 1) * (self.size + 2) + column + 1

    def board(self) -> np.ndarray:
        """The tokens [S] uint8: walls and open cells, without start and goal."""
        bordered = np.frombuffer(self.cells, np.uint8).reshape(self.size + 2, self.size + 2)
        return bordered[1:-1, 1:-1].reshape(-1) + np.uint8(WALL)


def grid_of(open_S: np.ndarray) -> Grid:
    """The grid with these open cells, bool [S].

    Raises:
        ValueError: the board is not square.
    """
    size = isqrt(open_S.size)
    if size * size != open_S.size:
        raise ValueError(f"a maze of {open_S.size} cells is not square")
    return Grid(size, bytearray(np.pad(open_S.reshape(size, size), 1).astype(np.uint8).tobytes()))


@dataclass(frozen=True)
class Search:
    """The result of a breadth-first search. levels[d] lists the cells d steps from the start, in the order reached."""

    levels: list[list[int]]
    parent: dict[int, int]  # the cell before each cell; the start has none

    def path(self, goal: int) -> list[int]:
        """A shortest path from the start to `goal`, with both ends."""
        path = [goal]
        while path[-1] in self.parent:
            path.append(self.parent[path[-1]])
        return path[::-1]


def search(grid: Grid, start: int, depth: int | None = None) -> Search:
    """Searches all cells within `depth` steps of the start; by default all that can be reached. O(S)."""
    steps, unvisited = grid.steps, grid.cells.copy()
    unvisited[start] = 0
    levels: list[list[int]] = []
    parent: dict[int, int] = {}
    level = [start]
    while level and (depth is None or len(levels) <= depth):
        levels.append(level)
        level = []
        for cell in levels[-1]:
            for step in steps:
                near = cell + step
                if unvisited[near]:
                    unvisited[near] = 0
                    parent[near] = cell
                    level.append(near)
    return Search(levels, parent)


def is_only_shortest(grid: Grid, reached: Search, path: list[int]) -> bool:
    """Whether this shortest path is the only one: each of its cells has a single cell before it."""
    for level, cell in zip(reached.levels, path[1:], strict=False):
        if len({cell + step for step in grid.steps} & set(level)) > 1:
            return False
    return True


def ends(question_S: np.ndarray) -> tuple[Grid, int, int]:
    """The grid of a maze, and the cells of its start and its goal.

    Raises:
        ValueError: the question is not a square board with one start and one goal.
    """
    grid = grid_of(np.isin(question_S, (OPEN, START, GOAL)))
    starts, goals = np.flatnonzero(question_S == START), np.flatnonzero(question_S == GOAL)
    if len(starts) != 1 or len(goals) != 1:
        raise ValueError(f"a maze needs one start and one goal, not {len(starts)} and {len(goals)}")
    return grid, grid.cell(int(starts[0])), grid.cell(int(goals[0]))


def are_mazes(questions_NS: np.ndarray, vocab_size: int) -> bool:
    """Whether all questions of a data set are square boards with one start and one goal, in a maze's vocabulary."""
    if vocab_size != VOCAB_SIZE or isqrt(questions_NS.shape[1]) ** 2 != questions_NS.shape[1]:
        return False
    return all(bool((np.sum(questions_NS == end, axis=1) == 1).all()) for end in (START, GOAL))


def shortest_answer(question_S: np.ndarray) -> np.ndarray | None:
    """The maze with a shortest path marked [S], or None if no path leads to the goal.

    Raises:
        ValueError: the question is not a square board with one start and one goal.
    """
    grid, start, goal = ends(question_S)
    reached = search(grid, start)
    if goal not in reached.parent:
        return None
    answer_S = question_S.copy()
    answer_S[[grid.position(cell) for cell in reached.path(goal)[1:-1]]] = PATH
    return answer_S


def distances(question_S: np.ndarray) -> np.ndarray:
    """The steps from the start to each cell [S] int32; -1 for cells that cannot be reached.

    Raises:
        ValueError: the question is not a square board with one start and one goal.
    """
    grid, start, _ = ends(question_S)
    steps_S = np.full(question_S.size, -1, np.int32)
    for steps, level in enumerate(search(grid, start).levels):
        steps_S[[grid.position(cell) for cell in level]] = steps
    return steps_S


def is_valid_answer(question_S: np.ndarray, answer_S: np.ndarray, distances_S: np.ndarray | None = None) -> bool:
    """Whether the answer is the question with a shortest path marked from start to goal, and nothing else.

    Args:
        question_S, answer_S: tokens.
        distances_S: `distances(question_S)`, if already known.

    Raises:
        ValueError: the question is not a square board with one start and one goal.
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

    Lemire's unbiased multiplication (arXiv:1805.10941), as in numpy: 32 bits per draw, none for n = 1.
    Other draws from `rng` may come in between.
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
    """A perfect maze: one path between any two cells. Carved depth first out of the largest odd square."""
    grid = Grid(size, bytearray((size + 2) ** 2))
    steps, rooms = grid.steps, (size - 1) // 2
    unvisited = bytearray(len(grid.cells))
    for row in range(rooms):
        for column in range(rooms):
            unvisited[grid.cell((2 * row + 1) * size + 2 * column + 1)] = 1
    row, column = draw(rooms), draw(rooms)
    trail = [grid.cell((2 * row + 1) * size + 2 * column + 1)]
    unvisited[trail[0]], grid.cells[trail[0]] = 0, 1
    while trail:
        cell = trail[-1]
        ways = [step for step in steps if unvisited[cell + 2 * step]]
        if not ways:
            trail.pop()
            continue
        step = ways[draw(len(ways))]
        room = cell + 2 * step
        grid.cells[cell + step] = grid.cells[room] = 1
        unvisited[room] = 0
        trail.append(room)
    return grid


def scatter(size: int, wall_prob: float, rng: np.random.Generator) -> Grid:
    """A grid of random walls: each cell is one with probability `wall_prob`, independently."""
    return grid_of(rng.random(size * size) >= wall_prob)
