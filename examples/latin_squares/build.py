"""Builds 5x5 Latin squares to complete: every row and column holds each digit once (docs/your_own_task.md).

python -m examples.latin_squares.build --output-dir data/latin-squares

Shapes: Q squares, S = 25 cells in reading order, D digits, B bytes of 8 squares each, E examples.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np

from config.command import command, unwinding
from dataset.layout import puzzle_split, write_dataset

N, CELLS = 5, 25
VOCAB_SIZE = N + 2  # token 0 is padding, 1 is a blank, 2 to 6 are the digits 1 to 5


def all_squares() -> np.ndarray:
    """All 161,280 Latin squares, [Q, 25], digits 1 to 5 in reading order."""
    rows_RN = np.array(list(permutations(range(N))))
    partial_PLN = rows_RN[None, :1]  # P squares of L lines; the first line is 0 1 2 3 4
    while partial_PLN.shape[1] < N:
        clash_PR = (partial_PLN[:, None] == rows_RN[None, :, None]).any(axis=(2, 3))
        old, new = np.nonzero(~clash_PR)
        partial_PLN = np.concatenate([partial_PLN[old], rows_RN[new, None]], axis=1)
    return (rows_RN[:, partial_PLN] + 1).astype(np.uint8).reshape(-1, CELLS)  # every renaming of the digits


def minimal_puzzle(square_S: np.ndarray, holds_SDB: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blanks cells of a square (0), in random order, while the clues left have one solution.

    Args:
        square_S: the square, digits 1 to 5.
        holds_SDB: bit q of holds_SDB[cell, digit - 1] says that square q has this digit in this cell.
        rng: draws the order.
    """
    order = rng.permutation(CELLS)
    clues_SB = holds_SDB[order, square_S[order] - 1]
    later_SB = np.bitwise_and.accumulate(clues_SB[::-1])[::-1]  # squares with this clue and all later ones
    agree_B = np.full_like(clues_SB[0], 255)  # squares with all clues kept so far
    puzzle_S = np.zeros_like(square_S)
    for turn, cell in enumerate(order):
        without_B = agree_B & later_SB[turn + 1] if turn + 1 < CELLS else agree_B
        if np.bitwise_count(without_B).sum() > 1:
            puzzle_S[cell] = square_S[cell]
            agree_B = agree_B & clues_SB[turn]
    return puzzle_S


@command(mistake=2)
@unwinding()
def main(words: Sequence[str]) -> None:
    """The command line. A signal leaves nothing half-written."""
    parser = argparse.ArgumentParser(description="Build 5x5 Latin squares to complete: one solution, no clue too many.")
    parser.add_argument("--output-dir", type=Path, default=Path("data/latin-squares"))
    parser.add_argument("--train-samples", type=int, default=10000)
    parser.add_argument("--test-samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)

    rng = np.random.default_rng(options.seed)
    squares_QS = all_squares()
    holds_SDB = np.stack([np.packbits(squares_QS == digit, axis=0).T for digit in range(1, N + 1)], axis=1)
    # Each square is used once. So no puzzle occurs twice, and training never shows an answer of the test set.
    labels_ES = rng.permutation(squares_QS)[: options.train_samples + options.test_samples]
    inputs_ES = np.stack([minimal_puzzle(square_S, holds_SDB, rng) for square_S in labels_ES])
    parts = {"train": slice(options.train_samples), "test": slice(options.train_samples, None)}
    splits = {name: puzzle_split(inputs_ES[part] + 1, labels_ES[part] + 1, VOCAB_SIZE) for name, part in parts.items()}
    write_dataset(options.output_dir, splits, ["<blank>"])
    print(f"{options.output_dir}: {np.count_nonzero(inputs_ES, axis=1).mean():.1f} clues a puzzle")


if __name__ == "__main__":
    main(sys.argv[1:])
