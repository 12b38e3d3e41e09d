"""Votes on ARC: cropping, ranking, merging in any order, and the submission."""

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import evaluation.observers.arc
from dataset.arc import IDENTITY, SIDE, Augmentation, Example, Task, crop, encode, pack
from dataset.layout import puzzle_split, write_dataset
from dataset.puzzles import Puzzles
from evaluation.about import About
from evaluation.observations import Observation
from evaluation.observers.arc import Votes, VotesByDepth, votes_by_depth
from evaluation.settings import Settings

QUESTION, OTHER, RIGHT = (np.array(grid, np.uint8) for grid in ([[1, 2, 0]], [[4], [5]], [[7, 8, 9], [0, 0, 3]]))
TASK = Task("a", [Example(QUESTION, RIGHT)], [Example(QUESTION, RIGHT), Example(OTHER, RIGHT[:1])])
AUGMENTS = [IDENTITY, *(Augmentation(k, bytes([0, *np.roll(range(1, 10), k).tolist()])) for k in range(8))]
NAMES = ["<blank>", "a", *(augmentation.name("a") for augmentation in AUGMENTS[1:])]


def votes(**tasks: Task) -> Votes:
    return Votes(NAMES, {"a": TASK, **tasks})


def vote(
    into: Votes, answer: np.ndarray, puzzle: int = 1, q_halt: float = 0.0, question: np.ndarray = QUESTION
) -> None:
    """Gives an answer to a question, both augmented as in puzzle `puzzle`."""
    augmentation = AUGMENTS[puzzle - 1]
    boards = (encode(grid, [augmentation]) for grid in (question, answer))
    into.add(*boards, np.array([puzzle]), np.array([q_halt]))


def grid(colour: int) -> np.ndarray:
    return np.array([[colour]], np.uint8)


def test_crop_takes_the_largest_rectangle_from_the_top_left() -> None:
    boards = np.full((6, SIDE, SIDE), 5)
    boards[1, 0, 0] = 1  # empty
    boards[2, 3, 4] = 1  # 30 x 4 is more than 3 x 30
    boards[3, 20, 2] = 0  # padding ends a grid too: 20 x 30
    boards[4, 0, 1], boards[4, 2, 0] = 1, 1  # 2 x 1
    boards[5, 0, 2], boards[5, 2, 0] = 1, 1  # 2 x 2
    shapes = [found.shape for found in crop(boards.reshape(6, -1))]
    assert shapes == [(30, 30), (1, 0), (30, 4), (20, 30), (2, 1), (2, 2)]
    assert all((found == 3).all() for found in crop(boards))


def brute_force_area(board: np.ndarray) -> int:
    free = board >= 2
    return max(h * w for h in range(SIDE + 1) for w in range(SIDE + 1) if free[:h, :w].all())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.001, 0.2))
def test_no_rectangle_is_larger(seed: int, ends: float) -> None:
    rng = np.random.default_rng(seed)
    board = np.where(rng.random((SIDE, SIDE)) < ends, 1, rng.integers(2, 12, (SIDE, SIDE)))
    [found] = crop(board[None])
    assert found.size == brute_force_area(board)
    np.testing.assert_array_equal(found, board[: found.shape[0], : found.shape[1]] - 2)


def test_votes_of_all_augmentations_are_one_answer() -> None:
    found = votes()
    for puzzle in range(1, len(NAMES)):
        vote(found, RIGHT, puzzle)
    [answers] = found.counts.values()
    assert {answer: support.votes for answer, support in answers.items()} == {pack(RIGHT): len(NAMES) - 1}
    assert set(found.metrics().values()) == {1.0}


def test_votes_come_before_confidence() -> None:
    found = votes()
    for answer, q_halts in [(grid(1), [-5, -5, -5]), (grid(2), [9, -1]), (RIGHT, [3, 3]), (grid(3), [20])]:
        for q_halt in q_halts:
            vote(found, answer, q_halt=q_halt)
    [answers] = found.counts.values()
    assert evaluation.observers.arc.ranked(answers) == [pack(g) for g in (grid(1), RIGHT, grid(2), grid(3))]
    assert found.metrics() == {
        "ARC/pass@1": 0, "ARC/pass@2": 1, "ARC/pass@5": 1, "ARC/pass@10": 1, "ARC/pass@100": 1, "ARC/pass@1000": 1
    }  # fmt: skip


def test_a_task_counts_as_the_share_of_its_inputs() -> None:
    solved = Task("b", [Example(RIGHT, RIGHT)], [Example(RIGHT, RIGHT)])
    unknown = Task("c", [Example(RIGHT, RIGHT)], [Example(grid(5), None)])
    found = Votes([*NAMES, "b", "c"], {"a": TASK, "b": solved, "c": unknown})
    assert all(np.isnan(value) for value in found.metrics().values())
    vote(found, RIGHT)
    vote(found, grid(1), question=OTHER)
    assert set(found.metrics().values()) == {0.5}
    for question, name in ((RIGHT, "b"), (grid(5), "c")):
        boards = encode(question, [IDENTITY])
        found.add(boards, boards, np.array([found._names.index(name)]), np.array([0.0]))
    assert set(found.metrics().values()) == {0.75}


def test_rows_that_do_not_vote() -> None:
    found = votes()
    blank = np.zeros((1, SIDE * SIDE), np.uint8)
    found.add(blank, blank, np.array([0]), np.array([1.0]))
    assert found.counts == {}
    found.add(encode(QUESTION, [IDENTITY]), blank, np.array([1]), np.array([float("nan")]))
    assert list(found.counts.values()) == [{}] and set(found.metrics().values()) == {0.0}
    with pytest.raises(ValueError, match="an input of the puzzle a is no test input"):
        vote(found, RIGHT, question=RIGHT)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6), st.integers(1, 9), st.floats(-30, 30)), max_size=25))
def test_the_order_of_parts_does_not_matter(ballots: list[tuple[int, int, int, float]]) -> None:
    whole, parts = votes(), [votes() for _ in range(3)]
    for part, colour, puzzle, q_halt in ballots:
        for found in (whole, parts[part]):
            vote(found, grid(colour), puzzle, q_halt)
    for order in permutations(parts):
        merged = votes()
        for part in order:
            merged.merge(part.counts)
        assert merged.counts == whole.counts
        np.testing.assert_equal(merged.metrics(), whole.metrics())


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.observers.arc.KEEP", 3)
    found = votes()
    for number in range(200):
        vote(found, np.array([[number // 100, number // 10 % 10, number % 10]], np.uint8))
        vote(found, RIGHT) if number % 2 == 0 else None
        assert all(len(answers) <= 6 for answers in found.counts.values())
    assert found.metrics()["ARC/pass@1"] == 1.0


def test_the_submission() -> None:
    found = votes(b=Task("b", [Example(QUESTION, RIGHT)], [Example(QUESTION, None)]))
    for answer in (RIGHT, RIGHT, RIGHT, grid(1), grid(2), grid(2)):
        vote(found, answer)
    vote(found, grid(4), question=OTHER)
    assert json.loads(found.submission()) == {
        "a": [{"attempt_1": RIGHT.tolist(), "attempt_2": [[2]]}, {"attempt_1": [[4]], "attempt_2": [[4]]}],
        "b": [{"attempt_1": [[0]], "attempt_2": [[0]]}],
    }


def test_votes_are_read_from_a_data_set(tmp_path: Path) -> None:
    fields = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]]}]}
    for name, content in (("identifiers.json", NAMES), ("test_puzzles.json", {"a": fields})):
        with pytest.raises(ValueError, match=f"{name}: no such file; ARC data is built by"):
            Votes.read(tmp_path)
        (tmp_path / name).write_text(json.dumps(content))
    found = Votes.read(tmp_path)
    vote(found, RIGHT, question=grid(3))
    assert all(np.isnan(value) for value in found.metrics().values())  # the answer is not known
    (tmp_path / "test_puzzles.json").write_text('{"a": {}}')
    with pytest.raises(ValueError, match="test_puzzles.json, task a: has no train examples"):
        Votes.read(tmp_path)
    (tmp_path / "identifiers.json").write_text("{}")
    with pytest.raises(ValueError, match="identifiers.json: holds no list"):
        Votes.read(tmp_path)


def test_parts_are_merged_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "set").mkdir(parents=True)
    about = About({}, 1, 1, Settings([1]), {"dataset": "set"}, str(tmp_path / "here" / "set"))
    monkeypatch.chdir(tmp_path / "here")
    assert about.data_path() == Path("set")
    monkeypatch.chdir(tmp_path)
    assert about.data_path() == tmp_path / "here" / "set"


def test_votes_in_parts_are_those_of_the_whole(tmp_path: Path) -> None:
    """Compares two halves of the trajectories, taken one after the other as JSON, with all at once."""
    fields = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": QUESTION.tolist()}]}
    (tmp_path / "test_puzzles.json").write_text(json.dumps({"a": fields}))
    (tmp_path / "identifiers.json").write_text(json.dumps(NAMES))
    questions = np.concatenate([encode(QUESTION, [augmentation]) for augmentation in AUGMENTS[:4]])
    write_dataset(tmp_path / "set", {"test": puzzle_split(questions, questions, vocab_size=12)}, ["<blank>"])
    puzzles = Puzzles(tmp_path / "set", "test", torch.device("cpu"))
    puzzles._puzzle_ids = torch.arange(1, 5, dtype=torch.int32)
    answers = [RIGHT, RIGHT, OTHER, RIGHT]
    boards = np.concatenate([encode(a, [augmentation]) for a, augmentation in zip(answers, AUGMENTS, strict=False)])
    seen = Observation({}, boards, np.array([1.0, -1.0, 0.5, 3.0]), np.zeros(4))
    found = []
    for cuts in ((0, 4), (0, 2, 4)):
        observer, parts = VotesByDepth(tmp_path, puzzles), []
        for part in map(slice, cuts, cuts[1:]):
            observer.observe(3, np.arange(4)[part], seen.rows(part))
            parts.append(json.loads(json.dumps(observer.take())))
        found.append(votes_by_depth(tmp_path, parts)[3].counts)
    assert found[0] == found[1]
    [counted] = found[0].values()
    assert {answer: support.votes for answer, support in counted.items()} == {pack(RIGHT): 3, pack(OTHER): 1}
