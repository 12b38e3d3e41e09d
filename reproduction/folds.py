"""Two folds of Sudoku's training puzzles: python -m reproduction.folds SOURCE_DIR OUT_DIR

SOURCE_DIR has a Sudoku-Extreme train.csv and test.csv. OUT_DIR/fold-a and fold-b get a train.csv without 300 of its
training puzzles, other ones in each, and a test.csv whose column `source` says what its puzzles were: `held_out` (the
300), `trained_on` (the rest), and those of SOURCE_DIR's test set as there. results/README.md says what this is for.
"""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dataset.csv_puzzles import csv_rows
from runtime.files import write_whole

COLUMNS = ("source", "question", "answer", "rating")
FOLDS, HELD_OUT = ("a", "b"), 300


def _read(file: Path) -> list[list[str]]:
    return [fields for _, fields in csv_rows(file, COLUMNS)]


def _text(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    return text.getvalue()


def split(source: Path, out: Path) -> None:
    """Writes the folds. Raises ValueError for CSVs that are none, or hold too few puzzles for it."""
    train, test = _read(source / "train.csv"), _read(source / "test.csv")
    if len(train) <= (needed := len(FOLDS) * HELD_OUT):
        raise ValueError(f"{source / 'train.csv'} holds {len(train)} puzzles, but more than {needed} are needed")
    order = np.random.default_rng(0).permutation(len(train))
    for fold, held in zip(FOLDS, np.split(order[:needed], len(FOLDS)), strict=True):
        held_out = np.isin(np.arange(len(train)), held)
        own = [["held_out" if here else "trained_on", *row[1:]] for here, row in zip(held_out, train, strict=True)]
        folder = out / f"fold-{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "train.csv", _text([row for here, row in zip(held_out, train, strict=True) if not here]))
        write_whole(folder / "test.csv", _text([*own, *test]))


def main(words: Sequence[str] | None = None) -> int:
    """The command line. Exit code: 0, or 1 for a mistake."""
    parser = argparse.ArgumentParser(prog="python -m reproduction.folds", description="Hold out training puzzles.")
    parser.add_argument("source", type=Path, metavar="SOURCE_DIR", help="with train.csv and test.csv")
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    given = parser.parse_args(words)
    try:
        split(given.source, given.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
