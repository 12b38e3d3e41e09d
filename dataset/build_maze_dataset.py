"""Builds Maze-Hard as the released builder does: mazes with many ways, and a shortest one marked.

python -m dataset.build_maze_dataset --output-dir data/maze-30x30-hard-1k
"""

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np

from config.command import command, unwinding
from dataset.csv_puzzles import csv_rows, require_text
from dataset.dihedral import SYMMETRIES, dihedral
from dataset.download import fetch_file
from dataset.layout import Metadata, Split, check_replaceable, puzzle_split, write_dataset
from dataset.maze import CHARACTERS, VOCAB_SIZE, is_valid_answer

COLUMNS = ("question", "answer")  # of a CSV, which may have more
NO_QUESTION, NO_ANSWER = re.compile("[^# SG]"), re.compile("[^# SGo]")
TOKENS = str.maketrans({character: chr(token) for token, character in enumerate(CHARACTERS, start=1)})


class Mazes(NamedTuple):
    """N mazes of one size and their answers, as tokens in reading order."""

    questions_NS: np.ndarray
    answers_NS: np.ndarray


def read_csv(file: Path) -> Mazes:
    """The mazes of a Maze-Hard CSV (source,question,answer,rating), uint8.

    Raises:
        ValueError: the CSV is wrong. The sentence names file, line and fault.
    """
    mazes: list[tuple[np.ndarray, np.ndarray]] = []
    for line, (question, answer) in csv_rows(file, COLUMNS):
        origin = f"{file}, line {line}"
        question, answer = question.replace("\n", ""), answer.replace("\n", "")
        cells = mazes[0][0].size if mazes else len(question)
        if isqrt(cells) ** 2 != cells:
            fault = f"the question has {cells} cells and is not square (are spaces at its ends lost?)"
            raise ValueError(f"{origin}: {fault}")
        require_text(origin, "question", question, cells, NO_QUESTION)
        require_text(origin, "answer", answer, cells, NO_ANSWER)
        question_S, answer_S = (_tokens(text) for text in (question, answer))
        try:
            valid = is_valid_answer(question_S, answer_S)
        except ValueError as error:
            raise ValueError(f"{origin}: {error}") from error
        if not valid:
            raise ValueError(f"{origin}: the answer does not mark a shortest path of the question")
        mazes.append((question_S, answer_S))
    if not mazes:
        raise ValueError(f"{file}: holds no maze")
    return Mazes(*(np.stack(boards) for boards in zip(*mazes, strict=True)))


def _tokens(text: str) -> np.ndarray:
    return np.frombuffer(text.translate(TOKENS).encode(), np.uint8)


def augment(mazes: Mazes) -> Mazes:
    """Puts the copies under the other 7 symmetries of the square behind each maze."""

    def copies(boards_NS: np.ndarray) -> np.ndarray:
        count, cells = boards_NS.shape
        boards_NRC = boards_NS.reshape(count, isqrt(cells), isqrt(cells))
        symmetric = [dihedral(boards_NRC, symmetry) for symmetry in range(SYMMETRIES)]
        return np.stack(symmetric, axis=1).reshape(-1, cells)

    return Mazes(*(copies(boards_NS) for boards_NS in mazes))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line, with defaults."""
    parser = argparse.ArgumentParser(
        description="Build Maze-Hard from its CSVs (train.csv, test.csv).",
        epilog="The same options and seed give the released builder's data, to the bit.",
    )
    add = parser.add_argument
    directory, repo = Path("data/maze-30x30-hard-1k"), "sapientinc/maze-30x30-hard-1k"
    add("--output-dir", type=Path, default=directory, help="folder to write (default: %(default)s)")
    add("--source-repo", default=repo, metavar="ID", help="on the Hugging Face hub (default: %(default)s)")
    add("--source-dir", type=Path, metavar="D", help="take the CSVs from this folder, not the hub")
    add("--subsample-size", type=int, metavar="N", help="random training mazes (default: all)")
    aug = "store each training maze in all 8 orientations"
    add("--aug", action=argparse.BooleanOptionalAction, default=False, help=f"{aug} (default: no)")
    add("--seed", type=int, default=42, help="default: %(default)s")
    return parser.parse_args(arguments)


def validate(options: argparse.Namespace) -> None:
    """Checks the options.

    Raises:
        ValueError: they cannot be met.
    """
    if not 0 <= options.seed < 2**32:
        raise ValueError(f"--seed {options.seed} is not in [0, 2^32)")
    if options.subsample_size is not None and options.subsample_size < 1:
        raise ValueError(f"--subsample-size {options.subsample_size} is less than 1")


def load(options: argparse.Namespace, name: str) -> tuple[Path, Mazes]:
    """One CSV, "train.csv" or "test.csv", and its mazes. Raises ValueError like `read_csv`."""
    folder = options.source_dir
    file = fetch_file(options.source_repo, name) if folder is None else folder / name
    return file, read_csv(file)


def build(options: argparse.Namespace) -> None:
    """Writes the data set.

    Raises:
        ValueError: the options or the mazes are wrong.
    """
    validate(options)
    check_replaceable(options.output_dir)
    (train_file, train), (test_file, test) = load(options, "train.csv"), load(options, "test.csv")
    cells, others = train.questions_NS.shape[1], test.questions_NS.shape[1]
    if cells != others:
        raise ValueError(f"{test_file}: its mazes have {others} cells, those of {train_file} have {cells}")
    rows = len(train.questions_NS)
    if options.subsample_size is not None and options.subsample_size < rows:
        chosen = np.random.RandomState(options.seed).choice(rows, options.subsample_size, replace=False)
        train = Mazes(train.questions_NS[chosen], train.answers_NS[chosen])
    splits = {"train": _split(augment(train), SYMMETRIES) if options.aug else _split(train), "test": _split(test)}
    write_dataset(options.output_dir, splits, ["<blank>"])


def _split(mazes: Mazes, copies: int = 1) -> Split:
    split = puzzle_split(*mazes, VOCAB_SIZE, copies)
    fields = split.metadata.model_dump(exclude={"total_samples"}, exclude_unset=True)
    metadata = Metadata(**fields, total_puzzles=split.metadata.total_groups)  # as released: without the copies
    return dataclasses.replace(split, metadata=metadata)


@command(mistake=2)
@unwinding()
def main(words: Sequence[str]) -> None:
    """The command line. A signal leaves nothing half-written."""
    options = parse(words)
    build(options)
    print(f"{options.output_dir}: the data set is complete")


if __name__ == "__main__":
    main(sys.argv[1:])
