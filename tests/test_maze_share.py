"""The share of answers that are a shortest path: which count, at which depth, over several processes."""

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import tiny_split
from hypothesis import given, settings
from hypothesis import strategies as st

from config.schema import EvalConfig
from dataset.layout import Split, puzzle_split
from dataset.maze import GOAL, OPEN, PATH, START, VOCAB_SIZE, WALL, grid_of, is_valid_answer, search, shortest_answer
from evaluation.observations import Observation
from evaluation.observers.maze import Counts, ShortestPaths


def maze(seed: int, size: int = 7) -> np.ndarray:
    """A maze with many shortest paths from corner to corner; one path along the edge is always open."""
    rng = np.random.default_rng(seed)
    board = np.where(rng.random((size, size)) < 0.2, WALL, OPEN).astype(np.uint8)
    board[0] = board[:, -1] = OPEN
    board[0, 0], board[-1, -1] = START, GOAL
    return board.reshape(-1)


def any_shortest(question_S: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random shortest path: a random walk along falling distances to the start."""
    grid = grid_of(question_S != WALL)
    start, goal = (grid.cell(int(np.flatnonzero(question_S == end)[0])) for end in (START, GOAL))
    levels = search(grid, start).levels
    steps = next(steps for steps, level in enumerate(levels) if goal in level)
    answer_S, cell = question_S.copy(), goal
    for level in levels[steps - 1 : 0 : -1]:
        cell = rng.choice([near for near in (cell + step for step in grid.steps) if near in level])
        answer_S[grid.position(int(cell))] = PATH
    return answer_S


def seen(answers_RS: np.ndarray) -> Observation:
    nothing = np.zeros(len(answers_RS))
    return Observation({}, answers_RS.astype(np.int16), nothing, nothing)


def observer(split: Split) -> ShortestPaths:
    return ShortestPaths(Path(), SimpleNamespace(split=split))


def shares(taken: list[Counts]) -> dict[int, dict[str, float]]:
    findings = ShortestPaths.finish(taken, Path())
    assert not findings.files
    return findings.metrics


def mazes(count: int = 5) -> Split:
    questions_NS = np.stack([maze(number) for number in range(count)])
    answers_NS = np.stack([shortest_answer(question_S) for question_S in questions_NS])
    return puzzle_split(questions_NS, answers_NS, VOCAB_SIZE)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 3))
def test_an_answer_counts_if_its_marks_are_a_way_and_no_way_is_shorter(seed: int, changes: int) -> None:
    rng = np.random.default_rng(seed)
    question_S = maze(seed)
    answer_S = any_shortest(question_S, rng)
    needed = (answer_S == PATH).sum()
    assert is_valid_answer(question_S, answer_S)
    for cell in rng.choice(np.flatnonzero(np.isin(answer_S, (OPEN, PATH))), changes, replace=False):
        answer_S[cell] = OPEN + PATH - answer_S[cell]
    corridor_S = np.where(answer_S == OPEN, WALL, np.where(answer_S == PATH, OPEN, answer_S))
    leads = shortest_answer(corridor_S) is not None
    assert is_valid_answer(question_S, answer_S) == (leads and (answer_S == PATH).sum() == needed)


def test_any_shortest_path_counts_not_only_the_one_in_the_data() -> None:
    split, rng = mazes(), np.random.default_rng(0)
    examples_R = np.repeat(np.arange(5), 40)
    answers_RS = np.stack([any_shortest(split.inputs[example], rng) for example in examples_R])
    assert 0 < (answers_RS == split.labels[examples_R]).all(1).mean() < 0.5
    found = observer(split)
    found.observe(1, examples_R, seen(split.inputs[examples_R]))
    found.observe(16, examples_R, seen(answers_RS))
    found.observe(16, examples_R[:50], seen(split.inputs[examples_R[:50]]))
    assert shares([found.take()]) == {1: {"maze/shortest_path": 0.0}, 16: {"maze/shortest_path": 200 / 250}}


def test_each_answer_is_taken_once() -> None:
    split = mazes()
    found = observer(split)
    for _ in range(2):
        found.observe(4, np.arange(3), seen(split.labels[[0, 1, 3]]))
        assert found.take() == [(4, 2, 3)]
    assert found.take() == [] and shares([[]]) == {}


def test_any_number_of_processes_reports_the_same() -> None:
    split = mazes(7)
    answers_NS = split.labels.copy()
    answers_NS[2] = split.inputs[2]
    alone, processes = observer(split), [observer(split) for _ in range(3)]
    for depth, answers in ((2, split.inputs), (8, answers_NS)):
        alone.observe(depth, np.arange(7), seen(answers))
        for rank, process in enumerate(processes):
            mine = np.arange(7)[rank::2] if rank < 2 else np.arange(0)  # the third has nothing to do
            process.observe(depth, mine, seen(answers[mine]))
    taken = json.loads(json.dumps([process.take() for process in processes]))  # as kept between units
    found = shares([alone.take()])
    assert found == {2: {"maze/shortest_path": 0.0}, 8: {"maze/shortest_path": 6 / 7}}
    assert all(shares(list(order)) == found for order in permutations(taken))


def changed(place: int, token: int) -> Split:
    split = mazes()
    inputs_NS = split.inputs.copy()
    inputs_NS[-1, place] = token
    return replace(split, inputs=inputs_NS)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (mazes(), True),
        (replace(mazes(), labels=mazes().inputs), False),
        (changed(0, OPEN), False),
        (changed(1, START), False),
        (changed(1, GOAL), False),
        (tiny_split(5, 0), False),
        (replace(mazes(), metadata=mazes().metadata.model_copy(update={"vocab_size": 11})), False),
    ],
)
def test_a_data_set_is_known_by_its_boards(split: Split, expected: bool) -> None:
    config = EvalConfig(checkpoint="x")
    assert ShortestPaths.applies(config, Path(), SimpleNamespace(split=split)) == expected
