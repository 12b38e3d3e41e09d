"""Solve a Sudoku with a trained model: python solve.py PUZZLE --checkpoint FILE (. or 0 is a blank)."""

import argparse
import sys
from math import isqrt

import numpy as np

from dataset.sudoku import BOXES, clashes, is_valid_solution
from evaluation.solver import Solver


def parse(text: str) -> np.ndarray:
    """Digits [S] of a puzzle written as S characters.

    Raises:
        ValueError: wrong length, wrong characters, or clues that break the rules.
    """
    size = isqrt(len(text))
    if size not in BOXES or size * size != len(text):
        raise ValueError(f"a puzzle has 16, 36 or 81 characters, but this one has {len(text)}")
    digits = "".join(map(str, range(1, size + 1)))
    for place, character in enumerate(text):
        if character not in digits + ".0":
            raise ValueError(f"character {place + 1} is {character!r}, but should be one of {digits} or . for a blank")
    puzzle_S = np.array([0 if character == "." else int(character) for character in text])
    if wrong := clashes(puzzle_S):
        cells = ", ".join(f"row {row + 1} column {column + 1}" for row, column in wrong)
        raise ValueError(f"the clues break the rules at {cells}")
    return puzzle_S


def board(digits_S: np.ndarray) -> str:
    """The grid as text, with lines between boxes."""
    size = isqrt(len(digits_S))
    rows, columns = BOXES[size]
    lines = []
    for r, row in enumerate(digits_S.reshape(size, size)):
        if r and r % rows == 0:
            lines.append("-" * (2 * size + 2 * (size // columns - 1) - 1))
        parts = row.reshape(-1, columns)
        lines.append(" | ".join(" ".join(str(d) if d else "." for d in part) for part in parts))
    return "\n".join(lines)


def main(words: list[str]) -> int:
    """Exit code: 0 solved, 1 a mistake in the command, 2 the answer is not a solution."""
    parser = argparse.ArgumentParser(description="Solve a Sudoku with a trained model.")
    parser.add_argument("puzzle", help="the rows one after another; . or 0 is a blank")
    parser.add_argument("--checkpoint", required=True, help="a checkpoint, or a run directory")
    parser.add_argument("--depth", type=int, default=16, help="outer iterations")
    parser.add_argument("--breadth", type=int, default=8, help="random starts")
    arguments = parser.parse_args(words)
    try:
        puzzle_S = parse(arguments.puzzle)
        if arguments.depth < 1 or arguments.breadth < 1:
            raise ValueError("--depth and --breadth should be at least 1")
        solver = Solver.load(arguments.checkpoint, len(puzzle_S), isqrt(len(puzzle_S)) + 2)
        [answer] = solver.solve(puzzle_S[None] + 1, arguments.depth, arguments.breadth)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    solution_S = np.asarray(answer.tokens_S) - 1
    in_range = bool(((solution_S >= 0) & (solution_S <= isqrt(len(puzzle_S)))).all())
    right = in_range and is_valid_solution(solution_S, puzzle_S)
    print(board(np.clip(solution_S, 0, None)))
    print(
        f"{'solved (checked by the rules)' if right else 'NOT solved: the answer breaks the rules'}: "
        f"{arguments.depth} iterations of {arguments.breadth} starts, residual {answer.residual:.4f}, "
        f"confidence {answer.confidence:.1%}"
    )
    return 0 if right else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
