"""Builds a Sudoku data set: Sudoku-Extreme as the released builder does, or new puzzles, offline.

- `python -m dataset.build_sudoku_dataset --subsample-size 1000 --num-aug 1000`
- `python -m dataset.build_sudoku_dataset --source generate --size 4 --train-samples 4600`
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np

from config.command import command, unwinding
from dataset.csv_puzzles import csv_rows, require_text
from dataset.download import fetch_file
from dataset.layout import Split, check_replaceable, puzzle_split, write_dataset
from dataset.progress import counted
from dataset.sudoku import BOXES, agree, count_solutions, follow_rules, random_puzzle, random_symmetries, transform
from dataset.sudoku_line import WHOLE
from dataset.sudoku_text import sudokus

COLUMNS = ("question", "answer", "rating")  # of a CSV, which may have more; a rating only if one is asked for
PLAIN, RATING = re.compile("[.0-9]+"), re.compile("[+-]?[0-9]+")
BLOCK = 20_000  # CSV rows to check at once
PUZZLES_4X4 = 85_632  # with one solution and no clue too many, of the 288 solutions; counted one by one
PATIENCE = 10_000  # the search ends after so many puzzles in a row that are not new
FEWEST_CLUES = {4: 4, 6: 8, 9: 17}  # of a Sudoku with one solution; for 9x9 arXiv:1201.0749
SEARCHED = 50  # puzzles of a CSV whose solutions are counted


class Row(NamedTuple):
    """One puzzle of a CSV, and the number of its last line."""

    line: int
    question: str
    answer: str
    rating: int


class Puzzles(NamedTuple):
    """N puzzles and their solutions, digits 0 (blank) to n in reading order."""

    questions_NS: np.ndarray
    answers_NS: np.ndarray


def read_csv(file: Path, min_difficulty: int | None = None, size: int = 9) -> Puzzles:
    """The puzzles of a CSV as Sudoku-Extreme's (source,question,answer,rating), uint8.

    Args:
        file: the CSV. Its columns may have other names (`dataset.csv_puzzles`), and blanks other signs.
        min_difficulty: the lowest rating to keep; by default all are kept.
        size: of the puzzles.

    Raises:
        ValueError: the CSV is wrong, or holds no such puzzle. The sentence names file, line and fault.
    """
    rows = _rows(file, size, min_difficulty is not None)
    kept = [Puzzles(*np.empty((2, 0, size * size), np.uint8))]
    while block := list(islice(rows, BLOCK)):
        questions_NS, answers_NS = _digits(file, size, block)
        hard = [min_difficulty is None or row.rating >= min_difficulty for row in block]
        kept.append(Puzzles(questions_NS[hard], answers_NS[hard]))
    puzzles = Puzzles(*(np.concatenate(arrays) for arrays in zip(*kept, strict=True)))
    if len(puzzles.questions_NS) == 0:
        which = "" if min_difficulty is None else f" with a rating of {min_difficulty} or more"
        raise ValueError(f"{file}: holds no puzzle{which}")
    return puzzles


def _rows(file: Path, size: int, rated: bool) -> Iterator[Row]:
    no_question, no_answer = (re.compile(f"[^{others}1-{size}]") for others in (".0", ""))
    for line, (*boards, rating) in csv_rows(file, COLUMNS if rated else (*COLUMNS[:2], COLUMNS[0])):
        origin = f"{file}, line {line}"
        question, answer = (_cells(board, size) for board in boards)
        hint = f" (--size {isqrt(len(question))} builds such puzzles)" if len(question) in WHOLE else ""
        require_text(origin, "question", question, size * size, no_question, hint)
        require_text(origin, "answer", answer, size * size, no_answer)
        if rated and not RATING.fullmatch(rating.strip()):
            raise ValueError(f"{origin}: the rating {rating!r} is not an integer")
        yield Row(line, question, answer, int(rating) if rated else 0)


def _cells(field: str, size: int) -> str:
    """The cells in a field, which may be in any notation that solve.py reads."""
    text = field.strip()
    if len(text) == size * size and PLAIN.fullmatch(text):
        return text
    try:
        boards = sudokus(list(enumerate(text.split("\n"), start=1)), ends=True)
    except ValueError:
        return text
    return boards[0].cells if len(boards) == 1 else text


def _digits(file: Path, size: int, block: list[Row]) -> Puzzles:
    def digits(texts: list[str]) -> np.ndarray:
        codes = np.frombuffer("".join(texts).replace(".", "0").encode(), np.uint8)
        return (codes - np.uint8(ord("0"))).reshape(len(texts), size * size)

    puzzles = Puzzles(digits([row.question for row in block]), digits([row.answer for row in block]))
    for correct_N, fault in [
        (agree(*puzzles), "the answer contradicts the question"),
        (follow_rules(puzzles.answers_NS, size), "the answer breaks the rules of Sudoku"),
    ]:
        if not correct_N.all():
            raise ValueError(f"{file}, line {block[int(correct_N.argmin())].line}: {fault}")
    return puzzles


def ambiguous(puzzles: Puzzles, size: int) -> int:
    """How many puzzles have several solutions, as far as their clues tell, and a search in the first `SEARCHED`."""
    several_N = (puzzles.questions_NS > 0).sum(1) < FEWEST_CLUES[size]
    for index in np.flatnonzero(~several_N[:SEARCHED]):
        several_N[index] = count_solutions(puzzles.questions_NS[index]) > 1
    return int(several_N.sum())


def augment(puzzles: Puzzles, size: int, num_aug: int, rng: np.random.RandomState) -> Puzzles:
    """Puts `num_aug` random symmetric copies behind each puzzle. With copies the result is int64, as released."""
    if num_aug == 0:
        return puzzles
    count, cells = puzzles.questions_NS.shape
    copies = Puzzles(*(np.empty((count, 1 + num_aug, cells), np.int64) for _ in range(2)))
    for index in counted(range(count), count, "puzzles with their copies"):
        symmetries = random_symmetries(rng, size, num_aug)
        for old_NS, new_NCS in zip(puzzles, copies, strict=True):
            new_NCS[index, 0] = old_NS[index]
            new_NCS[index, 1:] = transform(old_NS[index], symmetries)
    return Puzzles(*(new_NCS.reshape(-1, cells) for new_NCS in copies))


def generate(count: int, size: int, rng: np.random.Generator, taken: Puzzles | None = None) -> Puzzles:
    """New puzzles with one solution each and no clue too many, uint8. All differ, also from those of `taken`.

    Raises:
        ValueError: there seem to be fewer such puzzles than `count`.
    """
    known = set() if taken is None else {grid_S.tobytes() for grid_S in taken.questions_NS.astype(np.uint8)}
    new = counted(_new_puzzles(size, rng, known), count, "puzzles")
    puzzles = list(islice(new, count))
    if len(puzzles) < count:
        raise ValueError(f"found only {len(puzzles)} of {count} new {size}x{size} puzzles; ask for fewer")
    return Puzzles(*(np.stack(grids) for grids in zip(*puzzles, strict=True)))


def _new_puzzles(size: int, rng: np.random.Generator, known: set[bytes]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields puzzles that are not among the known ones, until `PATIENCE` others come in a row."""
    misses = 0
    while misses < PATIENCE:
        question_S, answer_S = (grid_S.astype(np.uint8) for grid_S in random_puzzle(rng, size))
        misses += 1
        if question_S.tobytes() not in known:
            known.add(question_S.tobytes())
            misses = 0
            yield question_S, answer_S


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line, with defaults."""
    parser = argparse.ArgumentParser(
        description="Build a Sudoku data set, from Sudoku-Extreme (train.csv, test.csv) or from new puzzles.",
        epilog="From the same CSVs, the same options and seed give the released builder's data, to the bit.",
    )
    add = parser.add_argument
    add(
        "--output-dir",
        type=Path,
        help="folder to write (default: data/sudoku-extreme-full, data/sudoku-<n>x<n>)",
    )
    add("--seed", type=int, default=42, help="default: %(default)s")
    add("--num-aug", type=int, default=0, metavar="N", help="symmetric copies per training puzzle (default: 0)")
    add(
        "--source",
        choices=("hub", "generate"),
        default="hub",
        help="Sudoku-Extreme from the Hugging Face hub, or new puzzles made here (default: %(default)s)",
    )
    add("--size", type=int, choices=tuple(BOXES), default=9, help="of the puzzles (default: %(default)s)")
    csvs = parser.add_argument_group("Sudoku-Extreme, or CSVs like it (question, answer)")
    repo = "sapientinc/sudoku-extreme"
    csvs.add_argument("--source-repo", default=repo, metavar="ID", help="on the hub (default: %(default)s)")
    csvs.add_argument("--source-dir", type=Path, metavar="D", help="take the CSVs from this folder, not the hub")
    csvs.add_argument("--min-difficulty", type=int, metavar="N", help="keep ratings of N and more (default: all)")
    csvs.add_argument("--subsample-size", type=int, metavar="N", help="random training puzzles (default: all)")
    new = parser.add_argument_group("new puzzles (--source generate): one solution, no clue too many")
    new.add_argument("--train-samples", type=int, default=1000, metavar="N", help="default: %(default)s")
    new.add_argument("--test-samples", type=int, default=1000, metavar="N", help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.output_dir is None:
        extreme = options.source == "hub" and options.size == 9
        name = "sudoku-extreme-full" if extreme else f"sudoku-{options.size}x{options.size}"
        options.output_dir = Path("data", name)
    return options


def validate(options: argparse.Namespace) -> None:
    """Checks the options.

    Raises:
        ValueError: they contradict each other or cannot be met.
    """
    for name, least in (("num_aug", 0), ("seed", 0), ("train_samples", 1), ("test_samples", 1)):
        if vars(options)[name] < least:
            raise ValueError(f"--{name.replace('_', '-')} {vars(options)[name]} is less than {least}")
    if options.seed >= 2**32:
        raise ValueError(f"--seed {options.seed} is not less than 2^32")
    if options.subsample_size is not None and options.subsample_size < 1:
        raise ValueError(f"--subsample-size {options.subsample_size} is less than 1")
    if options.source == "generate":
        asked = options.train_samples + options.test_samples
        if options.size == 4 and asked > PUZZLES_4X4:
            raise ValueError(f"--size 4: there are only {PUZZLES_4X4:,} such puzzles, not {asked:,}")
        for name in ("source_dir", "min_difficulty", "subsample_size"):
            if vars(options)[name] is not None:
                raise ValueError(f"--{name.replace('_', '-')} does not go with --source generate")
    elif options.size != 9 and options.source_dir is None:
        raise ValueError(f"--size {options.size} needs --source generate, or --source-dir with CSVs of that size")


def load(options: argparse.Namespace, name: str) -> Puzzles:
    """The puzzles of one CSV, "train.csv" or "test.csv". Raises ValueError like `read_csv`."""
    folder = options.source_dir
    file = fetch_file(options.source_repo, name) if folder is None else folder / name
    puzzles = read_csv(file, options.min_difficulty, options.size)
    if several := ambiguous(puzzles, options.size):
        count = len(puzzles.questions_NS)
        fault = f"{'' if count <= SEARCHED else 'at least '}{several} of {count} puzzles have several solutions"
        print(f"warning: {file}: {fault}, so a right answer may count as wrong", file=sys.stderr)
    return puzzles


def build(options: argparse.Namespace) -> None:
    """Writes the data set.

    Raises:
        ValueError: the options or the puzzles are wrong.
    """
    validate(options)
    check_replaceable(options.output_dir)
    rng = np.random.RandomState(options.seed)
    if options.source == "generate":
        new = np.random.default_rng(options.seed)
        train = augment(generate(options.train_samples, options.size, new), options.size, options.num_aug, rng)
        test = generate(options.test_samples, options.size, new, taken=train)
    else:
        train, test = load(options, "train.csv"), load(options, "test.csv")
        rows = len(train.questions_NS)
        if options.subsample_size is not None and options.subsample_size < rows:
            chosen = rng.choice(rows, options.subsample_size, replace=False)
            train = Puzzles(train.questions_NS[chosen], train.answers_NS[chosen])
        train = augment(train, options.size, options.num_aug, rng)
    splits: dict[str, Split] = {}
    for name, puzzles, copies in (("train", train, 1 + options.num_aug), ("test", test, 1)):
        inputs_NS, labels_NS = (digits_NS + 1 for digits_NS in puzzles)
        splits[name] = puzzle_split(inputs_NS, labels_NS, options.size + 2, copies)
    write_dataset(options.output_dir, splits, ["<blank>"])


@command(mistake=2)
@unwinding()
def main(words: Sequence[str]) -> None:
    """The command line. A signal leaves nothing half-written."""
    options = parse(words)
    build(options)
    print(f"{options.output_dir}: the data set is complete")


if __name__ == "__main__":
    main(sys.argv[1:])
