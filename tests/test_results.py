"""results/: tables and figures say what the records say; what ships is small and answers."""

import dataclasses
import json
import math
import shutil
from typing import Any

import pytest
import torch
from conftest import ROOT, exit_code, parsed
from safetensors import safe_open

from dataset.puzzles import Puzzles
from models.build import build
from reproduction import (
    accuracy,
    commands,
    draw_loss_curves,
    figures,
    ladder,
    record,
    records,
    reproduce,
    ship,
    speed_text,
    systems_text,
    table_text,
    tables,
)
from reproduction.paper import Paper, Setting, read_paper
from reproduction.records import Record
from runtime import checkpoint
from runtime.load import load_model, weights_into
from training import released

PAPER = read_paper()
SHIPPED = {"maze_unique": 600_000, "maze_unique_small": 100_000, "sudoku": 12_000_000}
"""The most bytes that a shipped checkpoint may have."""
assert SHIPPED.keys() == reproduce.SHIPPED.keys()

Values = dict[str, Any]
"""A record as JSON has it."""


def paper_of(values: Values, *numbers: Values) -> Paper:
    """The paper as if the tiny run were one of eqr_sudoku, and its data Sudoku-Extreme with the real test set."""
    values["config"]["run_name"] = "eqr_sudoku"
    paper = PAPER.model_dump(mode="json")
    paper["test_sets"]["real"] |= {"datasets": ["tiny"], "puzzles": 11}
    blank = {"model": "EqR", "recipes": ["eqr_sudoku"], "exact": 86.4, "source": "EqR"}
    changes = {"dataset": "tiny", "numbers": [blank | number for number in numbers]}
    paper["tasks"]["sudoku"] |= changes | {"figures": dict.fromkeys(("depth", "breadth", "training"), {"tiny": "tiny"})}
    return Paper.model_validate(paper)


# -- tables --------------------------------------------------------------------------------------------------------


def test_the_pages_and_figures_say_what_the_records_say(capsys):
    assert exit_code(tables.main, ["--check"]) == 0, capsys.readouterr().err


def test_the_page_says_in_words_what_the_records_say():
    by_name = {run.name: run for run in records.read_records()}

    def share(name: str, depth: int, puzzles: int = 11_999, breadth: int = 1, **wanted: object) -> str:
        wanted = {"different_init": breadth, "different_init_reset_std": 1.0, "kernels": "auto"} | wanted
        wanted = {"streaming": False, "noise_scale": by_name[name].own_settings["noise_scale"]} | wanted
        [evaluation] = [
            evaluation
            for evaluation in by_name[name].evaluations
            if evaluation.puzzles == puzzles and wanted.items() <= evaluation.settings.model_dump().items()
        ]
        return f"{100 * accuracy.exact(evaluation, depth):.1f}%"

    def cells(name: str) -> str:
        [alone] = [e for e in by_name[name].evaluations if e.puzzles == 800 and e.settings.different_init == 1]
        return f"{100 * alone.metrics[16]['all/accuracy']:.1f}%"

    def on_the_way(name: str, step: int, puzzles: int = 1024) -> str:
        rows = by_name[name].evaluations_on_the_way.rows
        [value] = [row[2] for row in rows if row[:2] == [step, puzzles]]
        return f"{100 * value:.1f}%"

    votes = by_name["sudoku_trm_seed_1"].evaluations
    [vote] = [v.metrics[64]["selection/majority/exact_accuracy"] for v in votes if v.settings.different_init == 128]
    folds = [by_name[f"sudoku_fold_{fold}"].evaluations[0].by["source"][16] for fold in "ab"]
    ours = [
        [group for group in groups if group.group in ("17_clue", "forum_hardest_1905_11", "unbiased")]
        for groups in folds
    ]
    first, second = (
        f"{100 * sum(group.puzzles * group.exact_accuracy.share for group in groups) / 11_999:.1f}%" for groups in ours
    )
    page = (ROOT / "results" / "README.md").read_text()
    for text in (
        f"solves {share('sudoku_50k', 16)} of the hard puzzles at depth 16 after 50,000 steps",
        f"it solves {share('sudoku', 16)} (`sudoku`)",
        f"{first} and {second} of the hard ones after 22,660 steps",
        f"{on_the_way('sudoku_50k', 22_500)} of a subset at step 22,500",
        f"{share('sudoku_trm', 16)} and {share('sudoku_trm_seed_1', 16)} of the hard puzzles at depth 16",
        f"EqR solves {share('sudoku_50k', 16)} after 50,000",
        f"right for {share('sudoku_trm', 64, 1200, 8)} of 1,200 hard puzzles with seed 0",
        f"and for {share('sudoku_trm_seed_1', 64, 1200, 8)} with seed 1",
        f"{100 * vote:.1f}% of 480 puzzles with 128 starts",
        f"{share('sudoku_trm_seed_1', 16, 120, 8, different_init_reset_std=0.1)} of 120 easier puzzles at depth 16",
        f"right for {share('sudoku_trm_seed_1', 16, 1200, 8)} of the 1,200",
        f"Ours solves {share('sudoku', 64, 800, 128, noise_scale=0.5, kernels='float8')} of the real puzzles so",
        f"and {share('sudoku', 64, 800, 128, kernels='float8')} with the noise of training, 0.01",
        f"right for {share('sudoku', 64, 480, 128, noise_scale=0.5, kernels='float8')} with noise 0.5",
        f"`hrm_sru` has {share('hrm_sru', 64, 800)} exact answers at every depth",
        f"It fills in {cells('hrm_sru')} of the cells",
        f"after 9,225 of its steps: {share('hrm_srupp', 64, 800)}, and {cells('hrm_srupp')} of the cells",
        f"from {share('maze_unique_small_150k', 16, 1000)} to {share('maze_unique_small', 16, 1000)} (5,000 steps)",
        f"from {share('maze_unique', 16, 1000)} to {share('maze_unique_37500', 16, 1000)} (2,500 steps)",
    ):
        assert text in page
    assert share("sudoku", 64, 480, 128, kernels="float8") == "100.0%", "all of them"
    assert {share("hrm_sru", 2**power, 800) for power in range(7)} == {"0.0%"}, "at every depth"


def test_a_table_puts_ours_beside_the_papers(tiny_values):
    tiny_values["evaluations"][0]["metrics"]["4"]["all/exact_accuracy"] = 0.75
    paper = paper_of(tiny_values, {"depth": 4, "summary": "tiny"}, {"depth": 8, "summary": "tiny"})
    tiny = parsed(tiny_values)
    texts = table_text.table_texts(paper, [tiny])
    ours = "75.00 ± 13.06 | 11 | `eqr_sudoku` | [tiny](runs/tiny.json) | 40 |"
    assert f"| EqR | 4 | 1 | 86.4 | EqR | {ours}" in texts["sudoku"]
    assert "| Sudoku-Extreme | EqR | 4 | 1 | 86.4 | 75.00 ± 13.06 | 11 | `tiny` |" in texts["summary"]
    assert "| Sudoku-Extreme | EqR | 8 | 1 | 86.4 | not run |  | `tiny` |" in texts["summary"]
    assert "| tiny | 40 | one start | 11 real test puzzles |" in texts["sudoku_depths"]
    assert "not run" in texts["maze_unique"] and texts["sudoku_hard"] == "not run\n"
    assert texts["evaluations"].count("11 real test puzzles") == 2
    assert "bash scripts/train.sh eqr_sudoku" in texts["commands"]

    task, [number, _] = paper.tasks["sudoku"], paper.tasks["sudoku"].numbers

    def measured(**changes: object) -> list[tuple[Record, records.Evaluation]]:
        return table_text.measured(number.model_copy(update=changes), task, paper, [tiny])

    assert measured() == [(tiny, tiny.evaluations[0])]
    for changes in (
        {"depth": 16},
        {"noise_scale": 0.5},
        {"breadth": 4},
        {"streaming": True},
        {"recipes": ["trm_sudoku"]},
    ):
        assert measured(**changes) == []
    assert measured(breadth=4, noise_scale=0.5) == [(tiny, tiny.evaluations[1])]


def test_systems_have_their_size_and_their_best(tiny_values):
    one, four = tiny_values["evaluations"]
    for depth, share in {"8": 0.25, "64": 0.75}.items():
        one["metrics"][depth] = one["metrics"]["4"] | {"all/exact_accuracy": share}
    four["settings"] |= {"noise_scale": one["settings"]["noise_scale"], "different_init": 8}
    four["metrics"]["64"] = four["metrics"]["4"] | {"convergence_top_k/cumulative_exact_acc_top1": 1.0}
    numbers = [{"depth": 8}, {"depth": 64, "breadth": 128, "exact": 99.8}]
    paper = paper_of(tiny_values, *numbers, {"model": "HRM", "recipes": ["hrm_sudoku"], "exact": 55})
    tiny = parsed(tiny_values | {"gpu_seconds": 1800})
    *_, eqr, hrm = systems_text.systems_texts(paper, [tiny])["sudoku_systems"].splitlines()
    run = "[tiny](runs/tiny.json) | 40 | 0.50"
    ours = "25.00 ± 13.06 | 99.8 at 64 x 128 | 100.00 (> 76.16) at 64 x 8"
    assert eqr == f"| EqR, `eqr_sudoku` | 4.86M | 18.7 | {run} | 86.4 | {ours} |"
    assert hrm == "| HRM, `hrm_sudoku` | 27.3M | 13.7 | not run |  |  | 55 |  |  |  |"


def test_of_perturbed_trajectories_the_highest_q_halt_counts(tiny_values):
    """Beside the paper's number with equally much noise, and beside no other."""
    _, four = tiny_values["evaluations"]
    four["settings"] |= {"different_init_reset_std": None, "perturb_std": 0.3, "noise_scale": 0.01}
    four["metrics"]["4"] |= {"selection/q_halt/exact_accuracy": 0.75, "convergence_top_k/exact_accuracy": 0.5}
    wanted = {"depth": 4, "breadth": 4, "exact": 98.75}
    paper = paper_of(tiny_values, wanted | {"perturb_std": 0.3}, wanted, wanted | {"perturb_std": 0.2})
    tiny = parsed(tiny_values | {"evaluations": [four]})
    rows = [line for line in table_text.table_texts(paper, [tiny])["sudoku"].splitlines() if line.startswith("| EqR")]
    ours = "75.00 ± 13.06 (highest q_halt of 4, perturbed by 0.3) | 11 | `eqr_sudoku` | [tiny](runs/tiny.json) | 40 |"
    assert rows[0] == f"| EqR, perturbed by 0.3 | 4 | 4 | 98.75 | EqR | {ours}"
    assert "not run" in rows[1] and "not run" in rows[2]
    assert "different_init_reset_std=null" in commands.evaluation_words(tiny, tiny.evaluations[0])


def test_of_several_evaluations_the_widest_counts(tiny_values):
    """That of most puzzles, and rather not in 8 bits; with the usual random starts."""
    paper, [one, four] = paper_of(tiny_values), tiny_values["evaluations"]
    float8 = one | {"settings": one["settings"] | {"kernels": "float8"}}
    tiny_values["evaluations"] = [one | {"puzzles": 5, "settings": one["settings"] | {"max_puzzles": 5}}, one, float8]
    tiny = parsed(tiny_values)
    assert table_text.widest(Setting(depth=4), "real", paper, tiny) == tiny.evaluations[1]
    four["settings"] |= {"different_init_reset_std": 0.1}
    near = parsed(tiny_values | {"evaluations": [four]})
    assert table_text.widest(Setting(depth=4, breadth=4, noise_scale=0.5), "real", paper, near) is None
    assert "| best converged of 4 starts of std 0.1 | 0.5 |" in table_text.evaluated(PAPER, [near])
    assert "different_init_reset_std=0.1" in commands.evaluation_words(near, near.evaluations[0])


@pytest.mark.parametrize(
    ("dataset", "puzzles", "limited", "split", "name"),
    [
        ("sudoku-extreme-1k-real-test", 800, False, "test", "real"),
        ("sudoku-extreme-1k-real-test", 100, True, "test", "real"),
        ("sudoku-extreme-1k-aug-1000", 11_999, False, "test", "hard"),
        ("sudoku-extreme-1k", 480, True, "test", "hard"),
        ("maze-30x30-unique-1k", 1000, False, "test", "mazes"),
        ("sudoku-extreme-1k-aug-1000", 422_786, False, "test", None),
        ("sudoku-extreme-1k-real-test", 1000, False, "train", None),
        ("sudoku-fold-a-aug-1000", 12_999, False, "test", None),
    ],
)
def test_an_evaluation_knows_its_test_set(dataset, puzzles, limited, split, name, tiny_values):
    [evaluation, _] = tiny_values["evaluations"]
    evaluation |= {"dataset": dataset, "puzzles": puzzles}
    evaluation["settings"] |= {"split": split, "max_puzzles": puzzles if limited else None}
    assert PAPER.test_set(parsed(tiny_values).evaluations[0]) == name


def test_a_streaming_evaluation_of_several_starts_is_answered_by_the_majority(tiny_values):
    paper = paper_of(tiny_values, {"depth": 4, "breadth": 4, "streaming": True, "exact": 95.3, "nfe": 9})
    _, four = tiny_values["evaluations"]
    four["settings"] |= {"streaming": True, "noise_scale": 0.01, "halt_max_steps": [4]}
    four["metrics"]["4"] |= {"selection/majority/exact_accuracy": 1.0, "nfe/mean": 7.5}
    share = {"share": 0.5, "error": 0.25, "puzzles": 4}
    group = {"group": "all", "puzzles": 4, "majority": share, "best_converged": share | {"share": 0}}
    four["by"] = {"source": {"4": [group]}}
    texts = table_text.table_texts(paper, [parsed(tiny_values)])
    assert (
        "| EqR, streaming | 4 | 4 | 95.3 at 9 | EqR | 100.00 (> 76.16) (majority of 4) at 7.5 | 11 |" in texts["sudoku"]
    )
    assert "| streaming, majority of 4 | 0.01 | source | all | 4 | 50.00 ± 25.00 |" in texts["groups"]


def test_accuracy_by_groups_is_kept_and_shown(tiny_run, tiny_work, tmp_path):
    shutil.copytree(tiny_work / "four", tmp_path / "four")
    share = {"share": 0.5, "error": 0.25, "puzzles": 4}
    by = {"1": [], "4": [{"group": "17_clue", "puzzles": 4, "exact_accuracy": share, "best_converged": share}]}
    (tmp_path / "four" / "by_source.json").write_text(json.dumps(by))
    tiny = record.record("tiny", tiny_run, [tmp_path / "four"])
    assert json.loads(records.to_text(tiny))["evaluations"][0]["by"] == {"source": by}
    row = "| tiny | 4 | best converged of 4 | 0.5 | source | 17_clue | 4 | 50.00 ± 25.00 |"
    assert row in table_text.grouped([tiny])


def test_training_puzzles_are_called_so(tiny_values, tiny_work):
    paper = paper_of(tiny_values, {"depth": 4})
    one = tiny_values["evaluations"][0]
    one["settings"]["split"] = "train"
    one["by"] = {"source": {"4": [{"group": "all", "puzzles": 11}]}}
    tiny = parsed(tiny_values)
    texts = table_text.table_texts(paper, [tiny])
    assert "| 11 training puzzles of tiny |" in texts["evaluations"] and "| all | 11 training |" in texts["groups"]
    assert "| 86.4 | EqR | not run |" in texts["sudoku"], "not of the test set"
    with pytest.raises(ValueError, match="no evaluation of one start"):
        reproduce.check(tiny, tiny_work, "tiny", None, None)


def test_without_runs_every_row_says_so():
    texts = table_text.table_texts(PAPER, [])
    assert texts["sudoku"].count("| not run |") == len(PAPER.tasks["sudoku"].numbers)
    assert all("not run" in text for text in texts.values()) and figures.drawings(PAPER, []) == {}
    assert ladder.ladders(PAPER, []) == {}
    alone = ladder.ladder(PAPER.tasks["sudoku"], PAPER, [])
    assert [rung.paper for rung in alone.rungs] == [2.6, 32.6, 74.7, 76.5, 84.8, 86.4]
    assert all(rung.ours is None for rung in alone.rungs) and alone.ours == "ours"


def test_the_ladder_compares_at_equal_steps(tiny_values, tmp_path):
    """At the last step that most rungs were evaluated at; runs of one recipe are seeds."""
    paper = paper_of(tiny_values, {"recipes": ["a"], "exact": 3}, {"recipes": ["b", "c"], "exact": 80})
    task = paper.tasks["sudoku"].model_copy(update={"ladder": {"a": "A", "b": "B", "c": "C"}})

    def run(recipe: str, *rows: tuple[int, int, float], **more: object) -> Record:
        config = tiny_values["config"] | {"run_name": recipe, "lr_min_ratio": 1.0}
        config |= {name: more.pop(name) for name in ("lr_min_ratio", "lr", "max_steps") if name in more}
        curve = tiny_values["evaluations_on_the_way"] | {"rows": [list(row) for row in rows]}
        return parsed(tiny_values | {"config": config, "evaluations_on_the_way": curve} | more)

    a = run("a", (10, 5, 0.0), (20, 5, 0.2), (20, 11, 0.3))
    b = [run("b", (10, 5, 0.4), (20, 5, 0.6), (30, 5, 0.8)), run("b", (20, 5, 0.8), (30, 5, 1.0))]
    falling = {"lr_min_ratio": 0.0, "max_steps": 40}
    others = [run("b", (20, 5, 0.0), **falling), run("b", (20, 5, 0.0), after="tiny"), run("d", (20, 5, 0.0))]
    others.append(run("b", (20, 5, 0.0), lr=0.5))
    drawn = ladder.ladder(task, paper, [a, *b, *others])
    assert drawn.ours == "ours: 5 real test puzzles after 20 steps of 8 rows"
    [first, second, third] = drawn.rungs
    assert (first.label, first.paper, first.ours, first.seeds) == ("A", 3, 20, 1)
    assert (second.paper, second.ours, second.seeds) == (80, pytest.approx(70), 2) and third.ours is None
    assert second.error == pytest.approx(100 * math.sqrt(0.7 * 0.3 / 5))
    all_three = [run(name, (40, 5, 1.0), **falling) for name in "abc"]
    assert ladder.ladder(task, paper, [a, *b, *others, *all_three]).ours.endswith("40 steps of 8 rows")
    longer = run("c", (40, 5, 1.0), **falling | {"max_steps": 50})
    assert ladder.ladder(task, paper, [*all_three[:2], longer]).rungs[2].ours is None, "its rate fell more slowly"
    pytest.importorskip("matplotlib")
    drawn.draw(tmp_path / "a.png")
    assert drawn.stands_in(tmp_path / "a.png")
    assert not dataclasses.replace(drawn, rungs=drawn.rungs[:1]).stands_in(tmp_path / "a.png")


def test_a_page_that_is_not_current_is_found_and_rewritten(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "read_records", lambda: [])
    for name in tables.PAGES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before\n<!-- results:runs -->\nold\n<!-- /results -->\nafter\n")
    assert exit_code(tables.main, ["--check"]) == 1
    complaints = capsys.readouterr().err.splitlines()
    assert [line.split(" is not what the records say")[0] for line in complaints] == list(tables.PAGES)
    assert exit_code(tables.main, []) == 0 and exit_code(tables.main, ["--check"]) == 0
    for name in tables.PAGES:
        text = (tmp_path / name).read_text()
        assert text == "before\n<!-- results:runs -->\nnot run\n<!-- /results -->\nafter\n"
    (tmp_path / "README.md").write_text("<!-- results:rums -->\n<!-- /results -->\n")
    assert exit_code(tables.main, []) == 1 and "there is no table rums" in capsys.readouterr().err


def test_speeds_are_compared_with_one_device_of_the_same_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(speed_text, "FOLDER", tmp_path)
    one = {"config": "x", "engine": "torch", "device": "G", "processes": 1, "rows": 8, "commit": "c"}
    one |= {"training ms": 10.0, "iteration ms": 4.0}
    two = one | {"processes": 2, "training ms": 5.5}
    alone = two | {"commit": "another"}
    (tmp_path / "scaling.json").write_text(json.dumps({"cases": [one, two, alone]}))
    _, _, *lines = speed_text.scaling().splitlines()
    assert lines == ["| `x` | torch | 2 x G | 8 | 5.5 ms | 1.82 | 4.0 ms | 1.00 | c |"]


# -- figures -------------------------------------------------------------------------------------------------------


def test_what_figures_show(tiny_values):
    paper = paper_of(tiny_values, {"depth": 4, "model": "EqR"}, {"depth": 4, "breadth": 8}, {"depth": 128})
    one, four = tiny_values["evaluations"]
    for depth in ("8", "64"):
        for evaluation in (one, four):
            evaluation["metrics"][depth] = evaluation["metrics"]["4"]
    one["metrics"]["64"] = one["metrics"]["64"] | {"all/exact_accuracy": 0.75}
    four["settings"] |= {"noise_scale": one["settings"]["noise_scale"], "different_init": 8}
    four["metrics"]["64"] = four["metrics"]["64"] | {"convergence_top_k/cumulative_exact_acc_top1": 1.0}
    drawn = figures.drawings(paper, [parsed(tiny_values)])

    depth = drawn["sudoku_depth"]
    assert [line.x for line in depth.lines] == [[1, 4, 8, 64]] and depth.lines[0].percent[-1] == 75
    assert depth.lines[0].errors[-1] == pytest.approx(100 * math.sqrt(0.75 * 0.25 / 11))
    assert depth.crosses == [figures.Cross("EqR: 86.4", 4, 86.4)], "of one start, and not of more depth"
    [breadth] = drawn["sudoku_breadth"].lines
    assert (breadth.x, breadth.percent) == ([1, 8], [75, 100])
    assert breadth.errors[1] == pytest.approx(100 - 76.16, abs=0.01), "the bound"
    assert drawn["sudoku_breadth"].crosses == [], "the paper's numbers are of other depths"

    hard = paper.model_copy(update={"test_sets": paper.test_sets | {"real": PAPER.test_sets["real"]}})
    hard.test_sets["hard"] = paper.test_sets["real"]
    other = figures.drawings(hard, [parsed(tiny_values)])["sudoku_depth"]
    assert other.lines == depth.lines and other.crosses == [], "the paper's numbers are not of these puzzles"


def test_curves_of_training_go_on_after_the_run_that_gave_the_weights(tiny_values):
    paper = paper_of(tiny_values)
    begun = parsed(
        tiny_values | {"name": "begun", "after": "tiny", "config": tiny_values["config"] | {"load_checkpoint": "tiny"}}
    )
    resumed = parsed(tiny_values | {"name": "begun", "after": "tiny", "steps": 60})
    task, tiny = paper.tasks["sudoku"], parsed(tiny_values)
    for later, steps in ((begun, [10, 20, 30, 40, 50, 60, 70, 80]), (resumed, [10, 20, 30, 40])):
        shown = figures.Shown("tiny", 0, later)
        [line] = figures.while_training(task, PAPER.model_copy(update=dict(paper)), [shown], [tiny, later]).lines
        assert line.x == pytest.approx([step / 1000 for step in steps])


def test_labels_do_not_overlap():
    assert figures.apart([0.5, 0.1, 0.52], 0.1) == pytest.approx([0.5, 0.1, 0.6])
    assert figures.apart([0.95, 0.96, 0.2], 0.1) == pytest.approx([0.87, 0.97, 0.2])
    assert figures.apart([], 0.1) == []


def test_a_figure_says_what_it_was_drawn_from(tiny_values, tmp_path):
    pytest.importorskip("matplotlib")
    drawing = figures.drawings(paper_of(tiny_values), [parsed(tiny_values)])["sudoku_training"]
    assert not drawing.stands_in(tmp_path / "a.png")
    drawing.draw(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG") and drawing.stands_in(tmp_path / "a.png")
    assert not dataclasses.replace(drawing, title="other").stands_in(tmp_path / "a.png")


@pytest.mark.parametrize("name", [file.stem for file in (ROOT / "results").glob("*.png")])
def test_figures_are_small_and_known(name):
    known = records.read_records()
    assert name in figures.drawings(PAPER, known) | ladder.ladders(PAPER, known)
    assert (ROOT / "results" / f"{name}.png").stat().st_size < 120_000


def test_pictures_of_the_documents_are_drawn(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    for folder in ("results", "tests"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(draw_loss_curves, "ROOT", tmp_path)
    draw_loss_curves.main()
    for name in ("loss_curves.png", "kernels_loss.png"):
        assert (tmp_path / "docs" / name).read_bytes().startswith(b"\x89PNG") and (ROOT / "docs" / name).is_file()
    assert capsys.readouterr().out.count("eqr_sudoku") == 3


# -- shipped checkpoints -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_shipped_checkpoint_is_the_average_alone(tiny_run, tiny_work, tmp_path, dtype):
    assert exit_code(ship.main, [str(tiny_run), str(tmp_path), "--dtype", dtype]) == 0
    small, whole = load_model(str(tmp_path)), load_model(str(tiny_run))
    assert small.averaged and small.step == 40
    assert small.puzzle_shape == whole.puzzle_shape and small.data_path == "data/tiny"
    assert small.weights.keys() == whole.weights.keys()
    for name, weight in whole.weights.items():
        assert torch.equal(small.weights[name], weight.to(ship.DTYPES[dtype]))
    model = build(small.arch, Puzzles(tiny_work / "data" / "tiny", "test", torch.device("cpu")).shape)
    weights_into(model, small)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    with safe_open(tmp_path / "last.safetensors", "pt") as file:
        assert {key.split("/")[0] for key in file.keys()} <= {"model", "ema"}
        assert '"/' not in "".join(file.metadata().values())


def test_what_cannot_be_shipped_is_one_sentence(tiny_run, tmp_path, capsys):
    big = checkpoint.load(tiny_run)
    name = next(iter(big.ema))
    big.ema[name] = torch.full_like(big.ema[name], 1e6)
    checkpoint.save(tmp_path / "big.safetensors", big)
    (tmp_path / "empty").mkdir()
    for source, sentence in (
        (tmp_path / "big.safetensors", "not finite as float16"),
        (tmp_path / "empty", "there is no checkpoint"),
    ):
        assert exit_code(ship.main, [str(source), str(tmp_path / "new"), "--dtype", "float16"]) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and sentence in line
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("program", ["ship", "released"])
def test_the_last_checkpoint_of_a_run_is_not_replaced_by_its_copy(program, tiny_run, tmp_path, capsys):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    last = run / "last.safetensors"
    before = last.read_bytes()
    copy = {"ship": (ship.main, [run]), "released": (released.main, [last])}
    main, there = copy[program]
    assert exit_code(main, [str(run), *map(str, there)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and str(there[0]) in line
    assert last.read_bytes() == before
    assert {file.name for file in run.iterdir()} == {file.name for file in tiny_run.iterdir()}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_checkpoints_are_small(name):
    file = ROOT / "checkpoints" / name / "last.safetensors"
    assert file.stat().st_size <= SHIPPED[name]
    saved = checkpoint.load(file)
    assert saved.ema and not saved.optimizer and saved.slots is None
    assert records.portable(saved.config) == saved.config
