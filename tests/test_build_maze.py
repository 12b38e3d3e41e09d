"""Mazes: the released builder's bits, and the mathematics of the result."""

import time
from pathlib import Path

import numpy as np
import pytest
from conftest import BUILT, assert_same_bits, built_by, exit_code
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.build_maze_unique_dataset import build, main, mazes, parse
from dataset.layout import read_split
from dataset.maze import (
    GOAL,
    OPEN,
    PATH,
    START,
    WALL,
    carve,
    grid_of,
    integers,
    is_valid_answer,
    search,
    shortest_answer,
)


def adjacency(question_S: np.ndarray) -> np.ndarray:
    """The adjacency matrix of a board's open cells [S, S], without `dataset.maze`."""
    size = round(question_S.size**0.5)
    row, column = np.divmod(np.arange(size * size), size)
    apart = abs(row[:, None] - row) + abs(column[:, None] - column)
    is_open = question_S != WALL
    return (apart == 1) & is_open[:, None] & is_open


def shortest_paths(question_S: np.ndarray) -> tuple[int, float]:
    """The length and the number of the shortest paths, by powers of the adjacency matrix."""
    adjacent_SS = adjacency(question_S).astype(float)
    ways_S = (question_S == START).astype(float)
    goal = int(np.flatnonzero(question_S == GOAL)[0])
    for length in range(question_S.size):
        if ways_S[goal]:
            return length, ways_S[goal]
        ways_S = ways_S @ adjacent_SS
    raise AssertionError("the goal cannot be reached")


@pytest.mark.parametrize("name", built_by("build_maze_unique_dataset"))
def test_same_bits_as_the_released_builder(name: str, tmp_path: Path) -> None:
    started = time.perf_counter()
    build(parse([*BUILT[name]["args"], "--output-dir", str(tmp_path / "set")]))
    assert time.perf_counter() - started < 10  # about 1 s; the released one takes 3.6 s
    assert_same_bits(tmp_path / "set", name)
    assert read_split(tmp_path / "set", "train").metadata.vocab_size == 6


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 2**32 - 1) | st.integers(1, 5), max_size=60))
def test_integers_are_those_of_numpy(seed: int, bounds: list[int]) -> None:
    ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
    draw = integers(ours)
    for bound in bounds:
        assert draw(bound) == int(theirs.integers(bound))
        if bound % 3 == 0:
            assert ours.random() == theirs.random()


def test_integers_reject_as_numpy_does() -> None:
    bound = 3 * 2**30  # a quarter of all 32-bit draws must be drawn again
    ours, theirs = np.random.default_rng(1), np.random.default_rng(1)
    draw = integers(ours)
    assert [draw(bound) for _ in range(1000)] == theirs.integers(bound, size=1000).tolist()


@settings(max_examples=20, deadline=None)
@given(st.integers(5, 16), st.integers(0, 2**32))
def test_a_perfect_maze_is_a_tree(size: int, seed: int) -> None:
    board_S = carve(size, integers(np.random.default_rng(seed))).board()
    cells, edges = int((board_S == OPEN).sum()), int(adjacency(board_S).sum()) // 2
    rooms = ((size - 1) // 2) ** 2
    assert cells == 2 * rooms - 1 == edges + 1
    start = int(np.flatnonzero(board_S == OPEN)[0])
    grid = grid_of(board_S == OPEN)
    assert sum(len(level) for level in search(grid, grid.cell(start)).levels) == cells


@pytest.mark.parametrize("mode", ["perfect", "random"])
def test_the_answer_is_the_only_shortest_path(mode: str) -> None:
    arguments = "--grid-size 9 --require-unique --dedupe --min-path-length 3 --max-path-length 9"
    options = parse([*arguments.split(), "--maze-mode", mode])
    seen = set()
    for _, (question_S, answer_S) in zip(range(60), mazes(options), strict=False):
        length, ways = shortest_paths(question_S)
        assert 3 <= length <= 9 and ways == 1
        assert int((answer_S == PATH).sum()) == length - 1
        assert is_valid_answer(question_S, answer_S)
        np.testing.assert_array_equal(answer_S, shortest_answer(question_S))
        seen.add(question_S.tobytes())
    assert len(seen) == 60


def board(*rows: str) -> np.ndarray:
    return np.array([["# SGo".index(character) + 1 for character in row] for row in rows], np.uint8).reshape(-1)


def test_what_counts_as_an_answer() -> None:
    question_S = board("S   ", " ## ", "  G ", "####")
    assert shortest_paths(question_S) == (4, 1.0)
    right_S = board("S   ", "o## ", "ooG ", "####")
    assert is_valid_answer(question_S, right_S)
    wrong = {
        "unmarked": question_S,
        "gap": board("S   ", "o## ", " oG ", "####"),
        "longer": board("Sooo", " ##o", "  Go", "####"),
        "too much": board("So  ", "o## ", "ooG ", "####"),
        "through a wall": board("S   ", "oo# ", " oG ", "####"),
        "wall removed": board("S   ", "o # ", "ooG ", "####"),
        "goal overwritten": board("S   ", "o## ", "ooo ", "####"),
        "other shape": right_S[:9],
    }
    assert [name for name, answer_S in wrong.items() if is_valid_answer(question_S, answer_S)] == []


def test_a_goal_out_of_reach_has_no_answer() -> None:
    question_S = board("S# ", "## ", "  G")
    assert shortest_answer(question_S) is None
    assert not is_valid_answer(question_S, question_S)


@pytest.mark.parametrize(
    ("rows", "sentence"), [(("S G", "   "), "6 cells is not square"), (("S ", "  "), "not 1 and 0")]
)
def test_boards_that_are_no_mazes(rows: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        shortest_answer(board(*rows))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--grid-size 4 --maze-mode perfect", "--grid-size 4 is too small: a perfect maze needs 5"),
        ("--grid-size -3", "--grid-size -3 is too small"),
        ("--train-samples 0", "--train-samples 0 is less than 1"),
        ("--test-samples -1", "--test-samples -1 is less than 1"),
        ("--seed -1", "--seed -1 is negative"),
        ("--wall-prob 1", r"--wall-prob 1.0 is not in \[0, 1\)"),
        ("--wall-prob nan", "--wall-prob nan is not"),
        ("--max-start-attempts 0", "--max-start-attempts 0 is less than 1"),
        (
            "--min-path-length 9 --max-path-length 8",
            "--min-path-length 9 is greater than --max-path-length 8",
        ),
        ("--min-path-length 0", "a path length of 0 is less than 1"),
        ("--length-distribution list", "needs --length-values"),
        ("--length-distribution list --length-values 2 3 --length-weights 1", "1 weights for 2 lengths"),
        ("--length-distribution list --length-values 2 --length-weights 0", "not all zero"),
        ("--length-distribution normal --length-std -1", "--length-std -1.0 is negative"),
        ("--length-distribution normal --length-mean inf", "--length-mean inf is not finite"),
        (
            "--grid-size 9 --min-path-length 31 --max-path-length 99 --maze-mode perfect --no-strict-length",
            "has a path of 31 steps",
        ),
        ("--grid-size 9 --max-path-length 31 --maze-mode perfect", "has a path of 31 steps"),
        (
            "--grid-size 5 --length-distribution fixed --length-value 23 --strict-length",
            "no maze with a path of 23 steps in 200 grids",
        ),
        ("--grid-size 5 --length-distribution fixed --length-value 23", "no maze with a path of 23 steps"),
        (
            "--grid-size 5 --length-distribution fixed --length-value 23 --no-strict-length --max-length-resamples 2",
            "no maze in 2 tries",
        ),
        ("--grid-size 2 --train-samples 99 --dedupe --max-length-resamples 50", "no new maze in 50 tries"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    arguments: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(main, [*arguments.split(), "--output-dir", str(tmp_path / "set")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and message.startswith("error: ")
    with pytest.raises(ValueError, match=sentence):
        raise ValueError(message)
    assert list(tmp_path.iterdir()) == []


def test_switches_are_those_of_the_released_builder() -> None:
    """It is strict unless told otherwise."""
    usual = parse([])
    assert (usual.strict_length, usual.require_unique, usual.dedupe) == (True, False, False)
    assert parse(["--strict-length", "--no-require-unique", "--no-dedupe"]) == usual
    other = parse(["--no-strict-length", "--require-unique", "--dedupe"])
    assert (other.strict_length, other.require_unique, other.dedupe) == (False, True, True)
