"""Maze-Hard: the released builder's bits, the symmetries of a square, and CSVs with faults."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import BUILT, ROOT, assert_same_bits, built_by, exit_code

from dataset.build_maze_dataset import build, main, parse, read_csv
from dataset.dihedral import INVERSES, SWAPPING, SYMMETRIES, dihedral
from dataset.layout import read_split
from dataset.maze import is_valid_answer

REAL = ROOT.parent / "shared/data/maze-30x30-hard-1k"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs the Maze-Hard CSVs in {REAL}")
@pytest.mark.parametrize("name", built_by("build_maze_dataset"))
def test_same_bits_as_the_released_builder(name: str, tmp_path: Path) -> None:
    build(parse([*BUILT[name]["args"], "--source-dir", str(REAL), "--output-dir", str(tmp_path / "set")]))
    assert_same_bits(tmp_path / "set", name)
    assert read_split(tmp_path / "set", "train").metadata.vocab_size == 6


def test_the_symmetries_are_a_group() -> None:
    board = np.arange(6).reshape(2, 3)
    images = [dihedral(board, symmetry).tolist() for symmetry in range(SYMMETRIES)]
    assert images[0] == [[0, 1, 2], [3, 4, 5]] and images[1] == [[2, 5], [1, 4], [0, 3]]
    assert images[4] == [[2, 1, 0], [5, 4, 3]] and images[5] == [[3, 4, 5], [0, 1, 2]]
    assert images[6] == [[0, 3], [1, 4], [2, 5]] and images[7] == [[5, 2], [4, 1], [3, 0]]
    for first in range(SYMMETRIES):
        turned = dihedral(board, first)
        assert dihedral(turned, INVERSES[first]).tolist() == board.tolist()
        assert (turned.shape == (3, 2)) == (first in SWAPPING)
        assert all(dihedral(turned, second).tolist() in images for second in range(SYMMETRIES))


HEADER = "source,question,answer,rating\n"
RIGHT = "x,S  ## G  ,Soo##oGoo,6\n"


def csvs(folder: Path, train: str, test: str) -> list[str]:
    (folder / "train.csv").write_text(train)
    (folder / "test.csv").write_text(test)
    return ["--source-dir", str(folder), "--output-dir", str(folder / "set")]


def test_a_small_set_with_all_symmetries(tmp_path: Path) -> None:
    arguments = csvs(tmp_path, HEADER + RIGHT * 3, HEADER + RIGHT)
    build(parse([*arguments, "--aug", "--subsample-size", "2"]))
    train, test = read_split(tmp_path / "set", "train"), read_split(tmp_path / "set", "test")
    assert train.inputs.shape == (16, 9) and test.inputs.shape == (1, 9)
    assert train.metadata.total_puzzles == 2 and train.group_indices.tolist() == [0, 8, 16]
    assert test.inputs[0].tolist() == [3, 2, 2, 1, 1, 2, 4, 2, 2]
    assert test.labels[0].tolist() == [3, 5, 5, 1, 1, 5, 4, 5, 5]
    assert train.inputs[0].tolist() == test.inputs[0].tolist()
    assert len({board.tobytes() for board in train.inputs}) == 8
    for question_S, answer_S in zip(train.inputs, train.labels, strict=True):
        assert is_valid_answer(question_S, answer_S)


def test_mazes_in_both_sets_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(main, csvs(tmp_path, HEADER + RIGHT, HEADER + RIGHT * 2 + "x,SG #  #  ,SG #  #  ,1\n")) == 0
    assert capsys.readouterr().err == "warning: 2 of 3 test puzzles also stand in the training set\n"


def test_a_subsample_is_drawn_with_the_seed(tmp_path: Path) -> None:
    rows = [RIGHT, "x,S G      ,SoG      ,2\n", "x,SG #  #  ,SG #  #  ,1\n", "x,GS #  #  ,GS #  #  ,1\n"]
    arguments = csvs(tmp_path, HEADER + "".join(rows), HEADER + RIGHT)
    every = read_csv(tmp_path / "train.csv").questions_NS
    for seed in (0, 1):
        build(parse([*arguments, "--subsample-size", "3", "--seed", str(seed)]))
        chosen = np.random.RandomState(seed).choice(4, 3, replace=False)
        np.testing.assert_array_equal(read_split(tmp_path / "set", "train").inputs, every[chosen])


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("", "train.csv: holds no maze"),
        ("x,S  ## G,Soo##oG,6\n", "line 2: the question has 7 cells and is not square (are spaces"),
        ("x,S#G  #,S#Goo#,2\n", "line 2: the question has 6 cells and is not square"),
        (RIGHT + "x,SG  ,SG  ,1\n", "line 3: the question has 4 characters instead of 9"),
        ("x,S  ## G  ,Soo##oGo,6\n", "line 2: the answer has 8 characters instead of 9"),
        ("x,S  ##oG  ,Soo##oGoo,6\n", "line 2: the question holds the character 'o'"),
        ("x,S  ## G  ,Soo##oGo.,6\n", "line 2: the answer holds the character '.'"),
        (RIGHT + "x,S  ## S  ,Soo##oSoo,6\n", "line 3: a maze needs one start and one goal, not 2 and 0"),
        ("x,S  ## G##,Soo##oG##,4\n", "line 2: the answer does not mark a shortest path"),
        ("x,S  ## G  ,Soo##oGo ,6\n", "line 2: the answer does not mark a shortest path"),
        ("x,S  ## G  ,Soo##o oo,6\n", "line 2: the answer does not mark a shortest path"),
        ("x,1\n", "line 2: has 2 columns instead of 4"),
    ],
)
def test_faults_of_a_csv_are_named(
    rows: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(main, csvs(tmp_path, HEADER + rows, HEADER + RIGHT)) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {tmp_path}") and sentence in message and message.count("\n") == 1
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--seed -1", "--seed -1 is not in [0, 2^32)"),
        ("--subsample-size 0", "--subsample-size 0 is less than 1"),
        ("--source-dir nowhere", "train.csv: no such file"),
        ("", "test.csv: its mazes have 4 cells, those of "),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = csvs(tmp_path, HEADER + RIGHT, HEADER + "x,SG  ,SG  ,1\n")
    assert exit_code(main, [*folder, *arguments.split()]) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "set").exists()


def test_it_runs_as_a_program(tmp_path: Path) -> None:
    arguments = csvs(tmp_path, HEADER + RIGHT, HEADER + RIGHT)
    words = [sys.executable, "-m", "dataset.build_maze_dataset", *arguments]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert read_split(tmp_path / "set", "train").inputs.shape == (1, 9)
