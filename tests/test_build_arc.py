"""ARC data: counts of the real sets, positions of grids, properties of augmentations, and files with faults."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, exit_code
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dataset.arc import (
    SIDE,
    Augmentation,
    Example,
    Task,
    crop,
    draw_augmentations,
    encode,
    pack,
    read_subset,
    split_name,
    unpack,
)
from dataset.build_arc_dataset import build, main, parse
from dataset.layout import read_split

REAL = ROOT.parent / "shared/data/arc"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"needs the ARC files in {REAL}")
grids = arrays(np.uint8, st.tuples(st.integers(1, SIDE), st.integers(1, SIDE)), elements=st.integers(0, 9))
colours = st.permutations(range(1, 10)).map(lambda order: bytes([0, *order]))
augmentations = st.builds(Augmentation, st.integers(0, 7), colours)


@settings(max_examples=300, deadline=None)
@given(grids, augmentations)
def test_an_augmentation_can_be_undone_through_its_name(grid: np.ndarray, augmentation: Augmentation) -> None:
    task, read = split_name(augmentation.name("a task"))
    assert task == "a task" and read == augmentation
    np.testing.assert_array_equal(read.undo(augmentation.apply(grid)), grid)
    [cropped] = crop(encode(grid, [augmentation]))
    np.testing.assert_array_equal(cropped, augmentation.apply(grid))
    np.testing.assert_array_equal(read.undo(cropped), grid)
    np.testing.assert_array_equal(unpack(pack(grid)), grid)


@settings(max_examples=50, deadline=None)
@given(grids, st.lists(augmentations, min_size=1, max_size=5), st.integers(0, 2**32))
def test_tokens_are_the_grid_and_its_end(grid: np.ndarray, augments: list[Augmentation], seed: int) -> None:
    shapes = [augmentation.apply(grid).shape for augmentation in augments]
    corners_K2 = np.random.default_rng(seed).integers(0, SIDE - np.array(shapes), endpoint=True)
    for augmentation, (row, column), tokens_S in zip(
        augments, corners_K2, encode(grid, augments, corners_K2), strict=True
    ):
        turned = augmentation.apply(grid)
        height, width = turned.shape
        board = np.zeros((SIDE + 1, SIDE + 1), int)
        board[row : row + height, column : column + width] = turned + 2
        board[row + height, column : column + width] = 1
        board[row : row + height, column + width] = 1
        np.testing.assert_array_equal(tokens_S.reshape(SIDE, SIDE), board[:SIDE, :SIDE])


@pytest.mark.parametrize("name", ["a|||t8|||0123456789", "a|||t0|||0123456788", "a|||t0", "a|||0|||0123456789"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="is no name of an ARC puzzle"):
        split_name(name)


def test_augmentations_are_distinct_in_content() -> None:
    grid = np.array([[1, 1], [1, 1]], np.uint8)
    found = draw_augmentations(Task("a", [Example(grid, grid)], [Example(grid, None)]), 20, np.random.default_rng(0))
    assert len(found) == 9 == len({augmentation.apply(grid).tobytes() for augmentation in found})


def test_augmentations_that_exchange_examples_are_the_same() -> None:
    """Half a turn changes each example into the other."""
    one, other = (np.array([row], np.uint8) for row in ([1, 2], [2, 1]))
    task = Task("a", [Example(one, one), Example(other, other)], [])
    found = draw_augmentations(task, 300, np.random.default_rng(0))
    kinds = {frozenset(augmentation.apply(grid).tobytes() for grid in (one, other)) for augmentation in found}
    upright = {augmentation.apply(one).shape for augmentation in found}
    assert len(upright) == 2 and len(found) == 2 * len(kinds)  # of one row, or of one column


@needs_real
def test_the_counts_of_arc_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--subsets training evaluation concept --test-set-name evaluation --num-aug 2"
    folder = tmp_path / "set"
    build(parse([*arguments.split(), "--input-file-prefix", str(REAL / "arc-agi"), "--output-dir", str(folder)]))
    train, test = read_split(folder, "train"), read_split(folder, "test")
    names = json.loads((folder / "identifiers.json").read_text())
    assert [len(train.inputs), len(test.inputs), len(names)] == [11964, 1257, 2881] and len(set(names)) == 2881
    assert [len(train.group_indices), len(test.group_indices)] == [961, 401]
    assert train.metadata.total_groups == train.metadata.total_puzzles == 960
    assert "1 of 400 tasks" in (warning := capsys.readouterr().err) and "070dd51e (40853293 in training)" in warning
    tasks = {task.name: task for task in read_subset(str(REAL / "arc-agi"), "evaluation")}
    assert list(json.loads((folder / "test_puzzles.json").read_text())) == list(tasks)
    for p in range(0, len(test.puzzle_identifiers), 7):
        name, augmentation = split_name(names[test.puzzle_identifiers[p]])
        rows = slice(*test.puzzle_indices[p : p + 2])
        for example, *boards in zip(tasks[name].test, crop(test.inputs[rows]), crop(test.labels[rows]), strict=True):
            for grid, board in zip(example, boards, strict=True):
                assert grid is not None
                np.testing.assert_array_equal(augmentation.undo(board), grid)


def cells(*rows: str) -> list[list[int]]:
    return [[int(cell) for cell in row] for row in rows]


def example(question: list[list[int]], answer: list[list[int]]) -> dict[str, Any]:
    return {"input": question, "output": answer}


TASKS: dict[str, Any] = {
    "train": {
        "a": {"train": [example(cells("12", "34"), cells("5"))], "test": [{"input": cells("123")}]},
        "b": {"train": [example(cells("67"), cells("76"))] * 2, "test": [{"input": cells("89")}]},
    },
    "eval": {"c": {"train": [example(cells("123"), cells("3"))] * 3, "test": [{"input": cells("7", "0")}] * 2}},
}
ANSWERS = {"train": {"a": [cells("3")], "b": [cells("98")]}, "eval": {"c": [cells("70"), cells("70")]}}


def arc_files(folder: Path, tasks: dict[str, Any] = TASKS, answers: dict[str, Any] = ANSWERS) -> list[str]:
    for kind, subsets in (("challenges", tasks), ("solutions", answers)):
        for subset, content in subsets.items():
            (folder / f"arc_{subset}_{kind}.json").write_text(json.dumps(content))
    words = "--subsets train eval --test-set-name eval --num-aug 30"
    return [*words.split(), "--input-file-prefix", str(folder / "arc"), "--output-dir", str(folder / "set")]


def test_what_stands_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(parse(arc_files(tmp_path)))
    assert capsys.readouterr().err == (
        "warning: 1 of 1 tasks of the test set eval also stand in the training subsets: c (a in train)\n"
    )
    train, test = read_split(tmp_path / "set", "train"), read_split(tmp_path / "set", "test")
    names = json.loads((tmp_path / "set/identifiers.json").read_text())
    assert names[0] == "<blank>" and [name for name in names if "|||" not in name] == ["<blank>", "a", "b", "c"]
    examples = Counter(dict.fromkeys("abc", 0))
    for p, identifier in enumerate(train.puzzle_identifiers):
        task, augmentation = split_name(names[identifier])
        rows = train.inputs[train.puzzle_indices[p] : train.puzzle_indices[p + 1]].reshape(-1, SIDE, SIDE)
        corners = [tuple(np.argwhere(board)[0]) for board in rows]
        assert (0, 0) in corners
        examples[task] += len(rows)
        moved = {corner for corner in corners if corner != (0, 0)}
        assert task != "c" or len(moved) <= 2
    assert [examples[task] for task in "abc"] == [2 * 31, 3 * 31, 3 * 31]
    assert train.group_indices.tolist() == [0, 31, 62, 93] and test.group_indices.tolist() == [0, 31]
    assert test.puzzle_identifiers.tolist() == list(range(63, 94))
    assert crop(test.inputs)[0].tolist() == cells("7", "0") and crop(test.labels)[1].tolist() == cells("70")


def test_without_solutions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(parse(arc_files(tmp_path, answers={})))
    assert "note: 2 test inputs of the training subsets have no solution" in capsys.readouterr().err
    train, test = read_split(tmp_path / "set", "train"), read_split(tmp_path / "set", "test")
    assert len(train.inputs) == (1 + 2 + 3) * 31 and {answer.tolist()[0][0] for answer in crop(test.labels)} == {0}
    asked = json.loads((tmp_path / "set/test_puzzles.json").read_text())["c"]["test"]
    assert asked == [{"input": cells("7", "0")}] * 2


def arc_folders(folder: Path) -> list[str]:
    """The same tasks as `arc_files` with their answers, in a folder for each subset and a file for each task."""
    for subset, tasks in TASKS.items():
        for name, task in tasks.items():
            tests = [
                example(test["input"], answer) for test, answer in zip(task["test"], ANSWERS[subset][name], strict=True)
            ]
            file = folder / "arc" / subset / f"of {name}" / f"{name}.json"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(task | {"test": tests}))
    return arc_files(folder, {}, {})


def test_folders_of_tasks_give_the_same_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in the repositories of ARC-AGI (<subset>/<task>.json) and ConceptARC (<subset>/<concept>/<task>.json)."""
    (tmp_path / "files").mkdir()
    (tmp_path / "folders").mkdir()
    build(parse(arc_files(tmp_path / "files")))
    build(parse(arc_folders(tmp_path / "folders")))
    sets = [tmp_path / name / "set" for name in ("files", "folders")]
    files = sorted(path.relative_to(sets[0]) for path in sets[0].rglob("*") if path.is_file())
    assert len(files) == 15 and all((sets[0] / file).read_bytes() == (sets[1] / file).read_bytes() for file in files)
    capsys.readouterr()
    words, train = arc_files(tmp_path / "folders", {}, {}), tmp_path / "folders/arc/train"
    (train / "a.json").write_text("{}")
    assert exit_code(main, words) == 2
    assert f"{train}/of a/a.json: the task a is also in {train}/a.json" in capsys.readouterr().err
    (train / "a.json").write_text("[]")
    (train / "of a/a.json").unlink()
    assert exit_code(main, words) == 2 and "a.json: holds no object" in capsys.readouterr().err
    (tmp_path / "folders/arc/empty").mkdir()
    assert exit_code(main, [*words, "--subsets", "eval", "empty"]) == 2
    assert "arc/empty: holds no tasks (*.json)" in capsys.readouterr().err


def test_hash_seeds_do_not_matter(tmp_path: Path) -> None:
    arguments, sets = arc_files(tmp_path), []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        words = [sys.executable, "-m", "dataset.build_arc_dataset", *arguments]
        ran = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        files = sorted(path for path in (tmp_path / "set").rglob("*") if path.is_file())
        sets.append({path.name + path.parent.name: path.read_bytes() for path in files})
    assert len(sets[0]) == 15 and sets[0] == sets[1]
    build(parse([*arguments, "--seed", "43"]))
    assert (tmp_path / "set/identifiers.json").read_bytes() != sets[0]["identifiers.jsonset"]


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ({"train": []}, "has no train examples"),
        ([], "has no train examples"),
        ({"train": [example(cells("1"), cells("1"))]}, "has no test examples"),
        ({"train": [3]}, "train example 1: is no pair of input and output"),
        ({"train": [example(cells("1"), cells("1")), {"input": cells("1")}]}, "train example 2, output: is no grid"),
        ({"train": [example([], cells("1"))]}, "train example 1, input: is no grid"),
        ({"train": [example(cells("12", "1"), cells("1"))]}, "input: has rows of different lengths"),
        ({"train": [example([[10]], cells("1"))]}, "input: holds 10, which is no colour from 0 to 9"),
        ({"train": [example([[True]], cells("1"))]}, "input: holds True, which is no colour"),
        ({"train": [example(cells("1" * 31), cells("1"))]}, "input: has 1 x 31 cells, more than 30 a side"),
    ],
)
def test_faults_of_a_task_are_named(
    task: object, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(main, arc_files(tmp_path, tasks=TASKS | {"eval": {"bad": task}})) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {tmp_path / 'arc_eval_challenges.json'}, task bad") and sentence in message
    assert not (tmp_path / "set").exists() and message.count("\n") == 1


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({}, "arc_eval_solutions.json: holds no tasks by name"),
        ({"d": []}, "arc_eval_solutions.json, task c: holds no list of answers for 2 test inputs"),
        ({"c": [cells("1")]}, "arc_eval_solutions.json, task c: holds 1 answers for 2 test inputs"),
        ({"c": [cells("1"), [[-1]]]}, "arc_eval_solutions.json, task c, answer 2: holds -1, which is no colour"),
    ],
)
def test_faults_of_solutions_are_named(
    answers: object, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(main, arc_files(tmp_path, answers=ANSWERS | {"eval": answers})) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--num-aug -1", "--num-aug -1 is less than 0"),
        ("--seed -1", "--seed -1 is less than 0"),
        ("--subsets train train", "--subsets names train twice"),
        ("--test-set-name other", "--test-set-name other is none of --subsets"),
        ("--subsets eval other", "arc_other_challenges.json: no such file, and "),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(main, [*arc_files(tmp_path), *arguments.split()]) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "set").exists()
    (tmp_path / "arc_train_challenges.json").write_text("{")
    assert exit_code(main, arc_files(tmp_path, tasks={})) == 2
    assert "arc_train_challenges.json: is not JSON" in capsys.readouterr().err
