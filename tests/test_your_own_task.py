"""docs/your_own_task.md: its builder, configurations and variations work."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, command, only_run

from config.load import load_pretrain
from dataset.layout import Split, puzzle_split, read_split, write_dataset
from dataset.puzzles import Puzzles
from solving.solver import Solver

BUILDER = "examples.latin_squares.build"
PAGE = (ROOT / "docs" / "your_own_task.md").read_text()
TRAIN, TEST = 64, 16
FEW = ["train=latin_squares", "max_steps=2", "arch.hidden_size=16", "arch.num_heads=2", "arch.halt_max_steps=2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data") / "latin"
    sizes = ["--train-samples", str(TRAIN), "--test-samples", str(TEST)]
    words = [sys.executable, "-m", BUILDER, "--output-dir", str(directory), *sizes]
    subprocess.run(words, check=True, capture_output=True, cwd=ROOT)
    return directory


@pytest.fixture(scope="module")
def splits(data: Path) -> dict[str, Split]:
    return {name: read_split(data, name) for name in ("train", "test")}


def count_solutions(puzzle: list[int], size: int = 5) -> int:
    """Counts by trying every digit in the first blank: slow, and unlike the builder."""
    if 0 not in puzzle:
        return 1
    cell = puzzle.index(0)
    row, column = divmod(cell, size)
    seen = {*puzzle[row * size : (row + 1) * size], *puzzle[column::size]}
    return sum(
        count_solutions([*puzzle[:cell], digit, *puzzle[cell + 1 :]], size)
        for digit in range(1, size + 1)
        if digit not in seen
    )


def test_counting_solutions() -> None:
    assert count_solutions([0] * 16, 4) == 576
    assert count_solutions([0] * 9, 3) == 12
    assert count_solutions([1, 2, 0, 0, 0, 0, 0, 0, 3], 3) == 0


def test_answers_are_latin_squares_and_agree_with_the_questions(splits: dict[str, Split]) -> None:
    for name, size in (("train", TRAIN), ("test", TEST)):
        labels, inputs = splits[name].labels, splits[name].inputs
        assert labels.shape == inputs.shape == (size, 25)
        squares = labels.reshape(-1, 5, 5)
        for axis in (1, 2):
            assert (np.sort(squares, axis=axis).swapaxes(axis, 2) == np.arange(2, 7)).all()
        assert ((inputs == 1) | (inputs == labels)).all()


def test_one_solution_and_no_clue_too_many(splits: dict[str, Split]) -> None:
    for puzzle in splits["test"].inputs.astype(int) - 1:
        assert count_solutions(puzzle.tolist()) == 1
    for puzzle in splits["test"].inputs[:4].astype(int) - 1:
        for cell in np.flatnonzero(puzzle):
            fewer = puzzle.copy()
            fewer[cell] = 0
            assert count_solutions(fewer.tolist()) > 1


def test_no_puzzle_and_no_answer_occurs_twice(splits: dict[str, Split]) -> None:
    for name in ("inputs", "labels"):
        grids = [grid.tobytes() for split in splits.values() for grid in getattr(split, name)]
        assert len(set(grids)) == TRAIN + TEST


def test_the_path_of_the_page_is_that_of_the_configuration() -> None:
    path = load_pretrain(["train=latin_squares"]).dataset.data_path
    line = f"python -m {BUILDER} --output-dir {path}\n"
    assert line in PAGE and line in (ROOT / "examples" / "latin_squares" / "build.py").read_text()


VARIATIONS = re.findall(r"`(arch(?:=|\.[^`\n]*=)[^`\n]*)`", PAGE)
assert len(VARIATIONS) == 4


@pytest.mark.parametrize("words", ["", *VARIATIONS])
def test_it_trains(data: Path, tmp_path: Path, words: str) -> None:
    """The example trains, as it is and with every variation that the page lists."""
    places = [f"dataset.data_path={data}", f"checkpoint_path={tmp_path}"]
    run = command("pretrain.py", *FEW, *places, *words.split())
    assert run.returncode == 0, run.stderr
    assert (only_run(tmp_path) / "final.json").is_file()
    if not words:
        answers = Solver.load(str(only_run(tmp_path)), 25, 7).solve(np.ones((2, 25), int), depth=2, breadth=2)
        assert [answer.tokens_S.shape for answer in answers] == [(25,), (25,)]


def test_labels_of_clues_need_not_be_scored(splits: dict[str, Split], tmp_path: Path) -> None:
    inputs, labels = splits["test"].inputs, splits["test"].labels
    change = "labels = np.where(inputs > 1, 0, labels)"
    assert f"`{change}`" in PAGE
    split = puzzle_split(inputs, np.where(inputs > 1, 0, labels), 7)
    write_dataset(tmp_path / "blanks", {"test": split}, ["<blank>"])
    batch = Puzzles(tmp_path / "blanks", "test", torch.device("cpu")).rows(np.arange(TEST))
    assert torch.equal(batch.labels < 0, batch.inputs > 1)
