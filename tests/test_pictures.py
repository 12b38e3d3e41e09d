"""The numbers in the pictures, and that every picture can be drawn, whatever the trajectories did."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from dataset.boards import Maze, Sudoku
from dataset.layout import read_split
from evaluation.drawing import board_pictures, curves, pictures
from evaluation.drawing.sample import Paths, Sample, cells_to_fill_in, principal, settled_at, telling

pytest.importorskip("matplotlib")
MAZES = ROOT / "tests" / "golden" / "checkpoints" / "maze9"


def sample(depth: int = 16, puzzles: int = 6, breadth: int = 4, **changed: np.ndarray) -> Sample:
    """A sample of 4x4 Sudokus with random values instead of a model's."""
    rng = np.random.default_rng(0)
    shape = (depth, puzzles, breadth)
    residual_DNB = np.exp(rng.normal(0, 1, shape)) / np.arange(1, depth + 1)[:, None, None]
    residual_DNB[0] = np.nan
    inputs_NS = rng.integers(1, 3, (puzzles, 16))
    labels_NS = np.where(inputs_NS == 1, 5, inputs_NS)
    fields = {
        "inputs_NS": inputs_NS,
        "labels_NS": labels_NS,
        "answers_DNBS": rng.integers(2, 6, (*shape, 16)),
        "right_DNB": rng.random(shape) < 0.5,
        "residual_DNB": residual_DNB,
        "scores_DNB": residual_DNB,
        "q_halt_DNB": rng.normal(-1, 1, shape),
        "paths": [
            Paths(0, rng.normal(size=(breadth, depth + 1, 2)), np.array([0.6, 0.3]), np.arange(breadth) % 2 == 0)
        ],
    } | changed
    difficulty_N = cells_to_fill_in(fields["inputs_NS"], fields["labels_NS"])
    return Sample(**fields, vocab_size=6, difficulty_N=difficulty_N, difficulty="cells to fill in", facts={})


def test_powers():
    assert curves.powers(1) == [1] and curves.powers(8) == [1, 2, 4, 8] and curves.powers(6) == [1, 2, 4, 6]


def test_accuracy_is_that_of_the_best_converged_of_each_group():
    right_DNB = np.array([[[1, 0, 0, 1]], [[0, 1, 1, 0]]], bool)
    scores_DNB = np.array([[[np.nan] * 4], [[2.0, 1.0, 4.0, 3.0]]])
    some = sample(2, 1, 4, right_DNB=right_DNB, scores_DNB=scores_DNB)
    assert curves.accuracy(some, 1).tolist() == [0.5, 0.5]
    assert curves.accuracy(some, 2).tolist() == [0.5, 0.5]  # groups (0, 1) and (2, 3): starts 0, 2, then 1, 3
    assert curves.accuracy(some, 4).tolist() == [1.0, 1.0]
    assert curves.accuracy(some, 3).tolist() == [1.0, 1.0]  # what does not fill a group is left out
    assert list(curves.accuracies(some)) == [1, 2, 4]


def test_residual_bands_are_quantiles_of_what_ends_right_and_of_the_rest():
    some = sample()
    bands = curves.residual_bands(some)
    solved = some.right_DNB[-1]
    assert bands["solved"].trajectories + bands["unsolved"].trajectories == solved.size
    np.testing.assert_allclose(bands["solved"].median, np.median(some.residual_DNB[1:, solved], axis=1))
    assert (bands["solved"].low <= bands["solved"].median).all() and len(bands["solved"].high) == 15
    assert list(curves.residual_bands(sample(right_DNB=np.ones((16, 6, 4), bool)))) == ["solved"]


def test_every_answer_is_in_one_bin_of_residual():
    some = sample(puzzles=40)
    bins = curves.by_residual(some)
    depths = [1, 3, 7, 15]
    assert bins.answers.sum() == some.right_DNB[depths].size and bins.right.sum() == some.right_DNB[depths].sum()
    inside = (some.residual_DNB[depths] >= bins.edges[4]) & (some.residual_DNB[depths] < bins.edges[5])
    assert bins.answers[4] == inside.sum() >= curves.FEWEST
    assert bins.accuracy[4] == pytest.approx(some.right_DNB[depths][inside].mean())
    assert np.isnan(bins.accuracy[bins.answers < curves.FEWEST]).all()
    np.testing.assert_allclose(np.diff(np.log(bins.edges)), np.log(bins.edges[1] / bins.edges[0]))


def test_a_trajectory_halts_when_it_first_says_right():
    q_halt_DNB = np.array([[-1.0, 1.0, -1.0], [1.0, -1.0, -1.0], [1.0, 1.0, -1.0]])[:, None]
    assert curves.halting_steps(q_halt_DNB).tolist() == [[2, 1, 4]]


@pytest.mark.parametrize(("blanks", "groups"), [([3, 3, 3], [(3, 3)]), ([3, 4, 4], [(3, 3), (4, 4)])])
def test_few_difficulties_are_groups_of_their_own(blanks, groups):
    labels_NS = np.full((3, 16), 2)
    inputs_NS = np.array([[1] * n + [2] * (16 - n) for n in blanks])
    found = curves.halting_by_difficulty(sample(puzzles=3, inputs_NS=inputs_NS, labels_NS=labels_NS))
    assert [(group.low, group.high) for group in found] == groups
    assert sum(len(group.halting) for group in found) == 12


def test_many_difficulties_are_three_groups_in_order():
    labels_NS = np.full((30, 40), 2)
    labels_NS[:, 39] = -100  # not scored, so that it does not count
    inputs_NS = np.array([[1] * n + [2] * (39 - n) + [1] for n in range(30)])
    found = curves.halting_by_difficulty(sample(puzzles=30, inputs_NS=inputs_NS, labels_NS=labels_NS))
    assert [group.low for group in found] == sorted(group.low for group in found) and len(found) == 3
    assert found[0].low == 0 and found[-1].high == 29 and {len(group.halting) for group in found} <= {36, 40, 44}


def test_settled_at():
    right_DX = np.array([[1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 1, 0]], bool)
    assert settled_at(right_DX).tolist() == [1, 2, 3, 4]


def test_telling_puzzles():
    right_DNB = np.zeros((3, 4, 2), bool)
    right_DNB[:, 0], right_DNB[2:, 1], right_DNB[2, 2, 0] = True, True, True
    assert telling(right_DNB) == [1, 2]
    assert telling(right_DNB[:, :1]) == [0] and telling(right_DNB[:, 3:]) == [0]


def test_principal_components_are_those_of_the_singular_value_decomposition():
    points_XF = np.random.default_rng(0).normal(size=(9, 50)) * np.linspace(3, 1, 50)
    found_X2, shares_2 = principal(points_XF)
    U, sizes, _ = np.linalg.svd(points_XF - points_XF.mean(0), full_matrices=False)
    np.testing.assert_allclose(abs(found_X2), abs(U[:, :2] * sizes[:2]), atol=1e-9)
    np.testing.assert_allclose(shares_2, sizes[:2] ** 2 / (sizes**2).sum())
    line_X2, shares_2 = principal(np.outer(np.arange(5.0), np.ones(7)))
    np.testing.assert_allclose(abs(np.diff(line_X2[:, 0])), np.sqrt(7))
    np.testing.assert_allclose(shares_2, [1, 0], atol=1e-9)


def test_training_series(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "a": 2.0}\n{"step": 2, "a": 3.0, "b": null}\n{"step": 3, "a"')
    series = curves.training(tmp_path / "metrics.jsonl")
    assert list(series) == ["a"] and [values.tolist() for values in series["a"]] == [[1, 2], [2.0, 3.0]]
    assert curves.smooth(*series["a"])[1].tolist() == [2.0, 3.0]
    steps, means = curves.smooth(np.arange(100), np.arange(100.0), windows=10)
    assert len(steps) == 10 and means.mean() == pytest.approx(49.5) and (steps == means).all()


def test_wrong_cells_are_scored_cells_that_differ():
    assert board_pictures.wrong_cells(np.array([1, 2, 3]), np.array([1, 3, -100])).tolist() == [False, True, False]


@pytest.mark.parametrize(("settled", "shown"), [([3, 1, 9, 2, 9, 9], [0, 3, 2, 4]), ([1, 2, 3, 4, 9], [3, 2, 1, 4])])
def test_boards_are_of_late_and_of_failed_puzzles(settled, shown):
    right_DNB = (np.arange(1, 9)[:, None] >= np.array(settled))[:, :, None]
    assert board_pictures.choose(sample(8, len(settled), 1, right_DNB=right_DNB)).tolist() == shown


def draw_all(some: Sample, kind: Maze | Sudoku) -> None:
    with pictures.style(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for draw in (
            pictures.accuracy_against_depth,
            pictures.heat_map,
            pictures.residual_against_iteration,
            pictures.accuracy_against_residual,
            pictures.halting_steps,
            lambda one: pictures.paths_to_attractors(one.paths),
            lambda one: board_pictures.boards(one, kind),
        ):
            draw(some).canvas.draw()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0], ids=["none is solved", "some are", "all are"])
def test_every_picture_can_be_drawn(share):
    right_DNB = np.random.default_rng(1).random((17, 3, 5)) < share
    draw_all(sample(17, 3, 5, right_DNB=right_DNB), Sudoku(4))


def test_one_trajectory_is_not_several():
    one = sample(puzzles=1, breadth=1)
    titles = [axes.get_title() for axes in pictures.halting_steps(one).axes]
    labels = pictures.residual_against_iteration(one).axes[0].get_legend_handles_labels()[1]
    assert all(text.endswith("(1 trajectory)") for text in titles + labels) and titles and labels


def test_what_stands_still_can_be_drawn():
    """A log scale has no place for a residual of 0."""
    still_DNB = np.zeros((16, 6, 1))
    still_DNB[0] = np.nan
    draw_all(sample(breadth=1, residual_DNB=still_DNB, scores_DNB=still_DNB), Sudoku(4))


def test_mazes_can_be_drawn():
    split = read_split(MAZES, "test")
    inputs_NS, labels_NS = np.array(split.inputs[:3]), np.array(split.labels[:3])
    answers_DNBS = np.broadcast_to(inputs_NS[None, :, None], (16, 3, 2, 81))
    draw_all(sample(16, 3, 2, inputs_NS=inputs_NS, labels_NS=labels_NS, answers_DNBS=answers_DNBS), Maze(9))


def test_evaluations_of_a_single_iteration_have_no_residual():
    result = {"metrics": {"1": {"all/exact_accuracy": 0.5, "puzzles": 3}}, "settings": {"different_init": 1}}
    with pictures.style():
        pictures.evaluations({"one": result}).canvas.draw()


def test_compared_evaluations_have_names_if_their_breadths_are_the_same():
    one, two = (
        {"metrics": {"2": {"all/exact_accuracy": 0.5, "all/residual": 1.0, "puzzles": 3}}, "settings": settings}
        for settings in ({"different_init": 1}, {"different_init": 2})
    )
    for results, labels in [
        ({"a/one": one, "a/two": two}, ["breadth 1", "breadth 2"]),
        ({"a/one": one, "b/one": one}, ["a/one: breadth 1", "b/one: breadth 1"]),
    ]:
        with pictures.style():
            left, right = pictures.evaluations(results).axes
        for axes in (left, right):
            assert [line.get_label() for line in axes.lines] == labels
        assert left.get_title() == "Solved, of 3 puzzles"
    two["metrics"]["2"]["puzzles"] = 10
    with pictures.style():
        assert pictures.evaluations({"one": one, "two": two}).axes[0].get_title() == "Solved, of 3 or 10 puzzles"
