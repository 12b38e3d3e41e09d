"""Sudokus of size 4, 6 and 9, with boxes of 2x2, 2x3 and 3x3 cells: rules, symmetries, solutions, new puzzles.

A grid holds the digits 0 (blank) to n, as [n, n] or in reading order as [S], S = n * n.
In a data set, a token is digit + 1 and token 0 is padding, so the vocabulary has n + 2 tokens.
Shapes: N grids, U units (rows, columns and boxes), K symmetries, V digits with the blank.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from math import isqrt

import numpy as np
import pysolvers
from pysat.solvers import Solver

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}  # size n: rows and columns of a box


@lru_cache
def units(size: int) -> np.ndarray:
    """The cells of every row, then column, then box, [3n, n], numbered in reading order."""
    rows, columns = BOXES[size]
    cells = np.arange(size * size).reshape(size, size)
    boxes = cells.reshape(size // rows, rows, size // columns, columns).swapaxes(1, 2).reshape(size, size)
    return np.concatenate([cells, cells.T, boxes])


def size_of(grid: np.ndarray) -> int:
    """The size n of a grid, [n, n] or [S].

    Raises:
        ValueError: it is no Sudoku grid of digits 0 to n.
    """
    size = isqrt(grid.size)
    if size not in BOXES or grid.shape not in ((size, size), (size * size,)):
        raise ValueError(f"a grid of shape {list(grid.shape)} is no Sudoku of size 4, 6 or 9")
    if grid.min() < 0 or grid.max() > size:
        raise ValueError(f"a Sudoku of size {size} holds digits 0 to {size}, not {grid.min()} to {grid.max()}")
    return size


def clashes(grid: np.ndarray) -> np.ndarray:
    """The cells [C], numbered in reading order, whose digit occurs twice in a row, column or box.

    Raises:
        ValueError: `grid` is no Sudoku grid.
    """
    size = size_of(grid)
    digits_UN = grid.reshape(-1)[units(size)]
    same_UNN = (digits_UN[:, :, None] == digits_UN[:, None]) & (digits_UN > 0)[:, None]
    return np.unique(units(size)[same_UNN.sum(-1) > 1])


def agree(puzzles_NS: np.ndarray, solutions_NS: np.ndarray) -> np.ndarray:
    """Whether each solution keeps the clues of its puzzle, bool [N]."""
    return ((puzzles_NS == 0) | (puzzles_NS == solutions_NS)).all(axis=1)


def follow_rules(solutions_NS: np.ndarray, size: int) -> np.ndarray:
    """Whether each grid has every digit from 1 to n once in each row, column and box, bool [N]."""
    bits_NS = 1 << solutions_NS.astype(np.int16)
    digits_NU = np.bitwise_or.reduce(bits_NS[:, units(size)], axis=2)
    return (digits_NU == (2 << size) - 2).all(axis=1)


def random_symmetries(rng: np.random.RandomState, size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws `count` symmetries of a Sudoku.

    A symmetry permutes the digits, transposes or not (if boxes are square), then permutes the bands, the rows
    within each band, the stacks and the columns within each stack. Its parts are drawn in this order.

    Returns:
        digits [count, n + 1], the new digit for each digit, and cells [count, S], the old cell for each new cell.
    """
    box_rows, box_columns = BOXES[size]
    digits_KV = np.zeros((count, size + 1), np.int64)
    cells_KRC = np.empty((count, size, size), np.int64)

    def lines(width: int) -> np.ndarray:
        return np.concatenate([band * width + rng.permutation(width) for band in rng.permutation(size // width)])

    for k in range(count):
        digits_KV[k, 1:] = rng.permutation(size) + 1
        transposed = box_rows == box_columns and rng.rand() < 0.5
        rows, columns = lines(box_rows)[:, None], lines(box_columns)[None, :]
        cells_KRC[k] = columns * size + rows if transposed else rows * size + columns
    return digits_KV, cells_KRC.reshape(count, size * size)


def transform(grid_S: np.ndarray, symmetries: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The grid under each of the symmetries, [K, S] int64."""
    digits, cells = symmetries
    return np.take_along_axis(digits, grid_S[cells], axis=1)


class Rules:
    """The rules of one size as an incremental SAT solver. A literal says that a cell holds a digit.

    A query assumes literals and adds no clue for good. So later queries use what the solver has learned.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._solver = Solver("cadical153")
        cells = np.arange(size * size)[:, None] * size + np.arange(size) + 1  # [S, n]
        exactly_one = cells.tolist()  # the digits of each cell, then the cells of each unit for each digit
        exactly_one += cells[units(size)].swapaxes(1, 2).reshape(-1, size).tolist()
        for literals in exactly_one:
            self._solver.add_clause(literals)
            for first, second in combinations(literals, 2):
                self._solver.add_clause([-first, -second])
        self._last_variable = size**3

    def literal(self, cell: int, digit: int) -> int:
        """The literal that a cell, numbered in reading order, holds a digit. Its negative says that it does not."""
        return cell * self.size + digit

    def literals(self, grid: np.ndarray) -> list[int]:
        """The clues of a grid as literals."""
        digits_S = grid.reshape(-1)
        return [self.literal(int(cell), int(digits_S[cell])) for cell in np.flatnonzero(digits_S)]

    def possible(self, assumed: Sequence[int]) -> bool:
        """Whether some full grid has all the assumed literals.

        `Solver.solve` would catch Ctrl-C by a jump out of the search, after which nothing is safe. 0 leaves that out.
        """
        cadical = self._solver.solver
        cadical.status = pysolvers.cadical153_solve(cadical.cadical, assumed, 0)
        return bool(cadical.status)

    def solutions(self, grid: np.ndarray, limit: int) -> list[np.ndarray]:
        """Up to `limit` different solutions of a grid, [S] each."""
        clues, grids = self.literals(grid), list[np.ndarray]()
        self._last_variable += 1
        search = self._last_variable  # true during this search only: its clauses do not hold afterwards
        while len(grids) < limit and self.possible([*clues, search]):
            model = [literal for literal in self._solver.get_model()[: self.size**3] if literal > 0]
            grids.append(np.array([(literal - 1) % self.size + 1 for literal in model]))
            self._solver.add_clause([-search, *(-literal for literal in model)])
        self._solver.add_clause([-search])
        return grids


@lru_cache
def rules(size: int) -> Rules:
    """The rules of a size. All callers share one solver."""
    return Rules(size)


def solutions(grid: np.ndarray, limit: int = 1) -> list[np.ndarray]:
    """Up to `limit` different solutions of a puzzle, [S] each.

    Raises:
        ValueError: `grid` is no Sudoku grid.
    """
    return rules(size_of(grid)).solutions(grid, limit)


def count_solutions(grid: np.ndarray, limit: int = 2) -> int:
    """The number of solutions, counted up to `limit`.

    Raises:
        ValueError: `grid` is no Sudoku grid.
    """
    return len(solutions(grid, limit))


def random_puzzle(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A random puzzle and its only solution, [S] each. The puzzle needs every one of its clues.

    The result depends on the random stream alone, not on the order in which the SAT solver finds solutions.
    """
    oracle = rules(size)
    cells = size * size
    clues: dict[int, int] = {}  # cell: literal
    for cell in rng.permutation(cells).tolist():
        for digit in (rng.permutation(size) + 1).tolist():
            clues[cell] = oracle.literal(cell, digit)
            if oracle.possible([*clues.values()]):
                break
    solution_S = np.array([(clues[cell] - 1) % size + 1 for cell in range(cells)])
    puzzle_S = solution_S.copy()
    for cell in rng.permutation(cells).tolist():
        # The puzzle has one solution, so any new one without this clue has another digit in this cell.
        clue = clues.pop(cell)
        if oracle.possible([*clues.values(), -clue]):
            clues[cell] = clue
        else:
            puzzle_S[cell] = 0
    return puzzle_S, solution_S
