"""results/: recording a run, tables and figures, shipped checkpoints, and checking one against the record."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, TINY, exit_code, only_run
from safetensors import safe_open

import evaluate
import pretrain
from config.load import load_eval, load_pretrain
from dataset.puzzles import Puzzles
from models.build import build
from reproduction import (
    accuracy,
    commands,
    draw_kernels,
    draw_loss_curves,
    figures,
    record,
    records,
    reproduce,
    ship,
    table_text,
    tables,
)
from reproduction.records import Paper, Record, Setting
from runtime import checkpoint
from runtime.load import load_model, weights_into

PAPER = records.read_paper()
SHIPPED = {"maze_unique": 600_000, "maze_unique_small": 100_000, "sudoku": 12_000_000}
"""The most bytes that a shipped checkpoint may have."""
assert SHIPPED.keys() == reproduce.TASKS.keys()

Values = dict[str, Any]
"""A record as JSON has it."""


@pytest.fixture(scope="module")
def work(tiny_data, tmp_path_factory) -> Path:
    """A folder with data/tiny, and a run in two slices with two evaluations."""
    work = tmp_path_factory.mktemp("work")
    shutil.copytree(tiny_data, work / "data" / "tiny")
    words = [*TINY, f"dataset.data_path={work}/data/tiny", "eval_puzzles=5", "eval_interval_steps=10", "lr=1e-2"]
    words += [f"checkpoint_path={work}/outputs", "wandb_mode=disabled"]
    assert exit_code(pretrain.main, [*words, "max_steps=20"]) == 0
    run = only_run(work / "outputs")
    assert exit_code(pretrain.main, [f"resume={run}", "max_steps=40"]) == 0
    for name, more in {"one": [], "four": ["different_init=4", "convergence_top_k=1", "noise_scale=0.5"]}.items():
        words = [f"checkpoint='{run}'", "halt_max_steps=[1,4]", f"eval_dir={work / name}", *more]
        assert exit_code(evaluate.main, words) == 0
    return work


@pytest.fixture(scope="module")
def run(work) -> Path:
    return only_run(work / "outputs")


@pytest.fixture(scope="module")
def tiny(run, work) -> Record:
    """The record of the run."""
    return record.record("tiny", run, [work / "one", work / "four"], hardware="2 CPU cores")


@pytest.fixture
def values(tiny) -> Values:
    """The record, to be changed."""
    return json.loads(records.to_text(tiny))


def parsed(values: Values) -> Record:
    return Record.model_validate(values)


def paper_of(values: Values, *numbers: Values) -> Paper:
    """The paper as if the tiny run were one of eqr_sudoku, and its data Sudoku-Extreme and its hard test set."""
    values["config"]["run_name"] = "eqr_sudoku"
    paper = PAPER.model_dump(mode="json")
    paper["test_sets"]["real"] |= {"datasets": ["tiny"], "puzzles": 11}
    blank = {"model": "EqR", "recipes": ["eqr_sudoku"], "exact": 86.4, "source": "EqR"}
    changes = {"dataset": "tiny", "numbers": [blank | number for number in numbers]}
    paper["tasks"]["sudoku"] |= changes | {"figures": dict.fromkeys(("depth", "breadth", "training"), {"tiny": "tiny"})}
    return Paper.model_validate(paper)


# -- recording ---------------------------------------------------------------------------------------------------


def test_a_record_holds_what_repeats_the_run(tiny, run):
    assert tiny.steps == 40 and tiny.seed == 0 and tiny.hardware == "2 CPU cores"
    assert tiny.commit == json.loads((run / "versions.json").read_text())["commit"]
    assert tiny.config.dataset.data_path == "data/tiny"
    assert '"/' not in records.to_text(tiny), "a path of this machine"
    assert tiny.training.rows[-1][0] == 40 and len(tiny.training.rows) == 40
    on_the_way = [row[:2] for row in tiny.evaluations_on_the_way.rows]
    assert on_the_way == [[10, 5], [20, 5], [20, 11], [30, 5], [40, 5], [40, 11]]

    recipe, *words = commands.training_words(tiny)
    assert records.portable(load_pretrain([f"train={recipe}", *words])) == tiny.config
    for evaluation in tiny.evaluations:
        words = commands.evaluation_words(tiny, evaluation)
        again = load_eval(["checkpoint=x", *words]).model_dump()
        recorded = evaluation.settings.model_dump(exclude={"checkpoint"}, exclude_unset=True)
        assert {name: again[name] or recorded[name] for name in recorded} == recorded
    assert commands.evaluation_words(tiny, tiny.evaluations[0]) == ["halt_max_steps=[1,4]"]


def test_every_record_is_read_and_written_as_it_is():
    for file in records.RUNS.glob("*.json"):
        text = file.read_text()
        written = json.loads(records.to_text(records.read_record(file)))
        assert written == json.loads(text) and written["name"] == file.stem
        assert '"/' not in text, f"{file.name} holds a path of a machine"
        assert written["commit"] != "unknown" and written["hardware"] != "not recorded"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "holds no JSON object"), ("{}", "name is missing"), ('{"colour": 1}', "unknown key colour")],
)
def test_a_damaged_record_is_one_sentence(text, sentence, values, tmp_path):
    whole = values if "colour" in text else {}
    (tmp_path / "a.json").write_text(text if text == "{" else json.dumps(whole | json.loads(text)))
    with pytest.raises(ValueError, match=rf"a\.json.*{sentence}"):
        records.read_records(tmp_path)


def test_a_run_that_went_on_from_another_names_it(tiny, values, monkeypatch, tmp_path):
    def later(name: str, after: str, steps: int = 40, **changes: object) -> Record:
        return parsed(values | {"name": name, "after": after, "steps": steps, "config": values["config"] | changes})

    first = parsed(values | {"name": "first", "steps": 30})
    resumed = later("resumed", "first", lr=1e-3, max_steps=40)
    loaded = later("loaded", "first", lr=1e-3, max_steps=40, load_checkpoint="first")
    runs = [first, resumed, loaded]
    assert records.chain(resumed, runs) == [resumed, first] and records.chain(first, runs) == [first]
    with pytest.raises(ValueError, match="resumed went on from first, which is not recorded"):
        records.chain(resumed, runs[1:])
    with pytest.raises(ValueError, match="first went on from resumed, which went on from it"):
        records.chain(resumed, [first.model_copy(update={"after": "resumed"}), resumed])

    words = commands.training_words(resumed, [first], "DIR")
    assert words == ["resume=DIR", "max_steps=40", "lr=0.001"]
    recipe, *words = commands.training_words(loaded, [first], "DIR")
    assert recipe == "quickstart" and {'load_checkpoint="DIR"', "lr=0.001", "max_steps=40"} <= set(words)
    assert table_text.steps(resumed, runs) == "40" and table_text.steps(loaded, runs) == "30 + 40"
    again = later("again", "loaded", 60, lr=1e-3, max_steps=40, load_checkpoint="first")
    assert table_text.steps(again, [*runs, again]) == "30 + 60", "it went on as the run that began from weights"
    assert commands.training_words(again, [loaded, first], "DIR") == ["resume=DIR", "max_steps=60"]
    anew = later("anew", "loaded", 60, lr=1e-3, max_steps=40, load_checkpoint="first", seed=7)
    assert table_text.steps(anew, [*runs, anew]) == "70 + 60", "a run that goes on keeps its seed"
    assert {'load_checkpoint="DIR"', "seed=7"} <= set(commands.training_words(anew, [loaded, first], "DIR"))
    lines = table_text.commands([resumed, first]).splitlines()
    assert lines[1] == "# first" and "bash scripts/train.sh resume=RUN_DIR_OF_first max_steps=40 lr=0.001" in lines

    for link in runs:
        (tmp_path / f"{link.name}.json").write_text(records.to_text(link))
    trained = []
    monkeypatch.setattr(reproduce, "RUNS", tmp_path)
    monkeypatch.setattr(reproduce, "script", lambda *words: trained.append(words) or f"done: run{len(trained)}\n")
    assert reproduce.train(resumed) == Path("run2")
    assert trained[1][:3] == ("train.sh", "resume=run1", "max_steps=40")
    assert trained[0][:2] == ("train.sh", "quickstart") and "lr=0.01" in trained[0]


def test_evaluations_are_added_or_replaced(tiny, run, work):
    first = record.record("tiny", run, [work / "one"], hardware="a", note="b")
    both = record.record("tiny", run, [work / "four"], first, note="c")
    assert both.evaluations == tiny.evaluations and (both.hardware, both.note) == ("a", "c")
    assert record.record("tiny", run, [work / "one"], both).evaluations == tiny.evaluations
    one, four = tiny.evaluations
    assert one.settings.noise_scale == 0.01 and four.settings.noise_scale == 0.5
    assert accuracy.exact(one, 4) == one.metrics[4]["all/exact_accuracy"]
    assert accuracy.exact(four, 4) == four.metrics[4]["convergence_top_k/cumulative_exact_acc_top1"]


def test_evaluations_are_added_without_the_run(tiny, run, work, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RUNS", tmp_path)
    assert exit_code(record.main, ["tiny", str(run), str(work / "one"), "--hardware", "2 CPU cores"]) == 0
    assert exit_code(record.main, ["tiny", str(work / "four"), "--note", "later"]) == 0
    both = records.read_record(tmp_path / "tiny.json")
    assert both.evaluations == tiny.evaluations and both.training == tiny.training
    assert (both.hardware, both.note) == ("2 CPU cores", "later")
    assert exit_code(record.main, ["other", str(work / "four")]) == 1 and "metrics.jsonl" in capsys.readouterr().err


def test_a_run_that_was_stopped_is_trained_as_far_again(values):
    values["config"] |= {"epochs": 50, "max_steps": None}
    assert "max_steps=40" in commands.training_words(parsed(values))


def test_eight_bits_are_another_evaluation(tiny, run, work, tmp_path):
    shutil.copytree(work / "one", tmp_path / "one")
    file = tmp_path / "one" / "results.json"
    file.write_text(file.read_text().replace('"kernels": "auto"', '"kernels": "float8"'))
    both = record.record("tiny", run, [tmp_path / "one"], tiny)
    assert both.evaluations[:2] == tiny.evaluations and len(both.evaluations) == 3
    assert both.evaluations[2].float8 and 'kernels="float8"' in commands.evaluation_words(both, both.evaluations[2])
    assert ", float8 |" in table_text.evaluated(PAPER, [both])


def test_slices_of_training_add_up():
    rates = ((10, 40.0, 4.0), (20, 80.0, 4.0))  # two processes, then four
    names = ("step", "train/samples_per_second", "train/process_seconds")
    log = [dict(zip(names, line, strict=True)) for line in rates]
    assert record.training_time([*log, {"step": 20, "eval/puzzles": 5}], 8) == (3.0, 8.0)


def test_curves_are_thinned():
    log = [{"step": step, "train/lm_loss": float(step)} for step in range(1, 1001)]
    rows = record.training_curve(log).rows
    assert len(rows) <= record.POINTS and rows[0] == [4, 2.5, None, None] and rows[-1][0] == 1000


def test_mistakes_in_recording_are_one_sentence(run, work, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RUNS", tmp_path / "runs")
    assert exit_code(record.main, ["tiny", str(run), str(work / "one"), "--hardware", "2 cores"]) == 0
    before = (tmp_path / "runs" / "tiny.json").read_text()

    def changed(folder: Path, name: str, change) -> Path:
        """A copy of a folder with another text in one file."""
        copy = tmp_path / f"copy {len(list(tmp_path.iterdir()))}"
        shutil.copytree(folder, copy)
        (copy / name).write_text(change((folder / name).read_text()))
        return copy

    def replaced(folder: Path, name: str, old: str, new: str) -> Path:
        return changed(folder, name, lambda text: re.sub(old, new, text))

    other = replaced(run, "config.yaml", "seed: 0", "seed: 1")
    wrong = replaced(work / "one", "results.json", '"H_cycles": 1', '"H_cycles": 2')
    early = replaced(work / "one", "results.json", '"step": 40', '"step": 20')
    named = replaced(run, "config.yaml", "run_name: quickstart", "run_name: mine")
    resumed = replaced(run, "config.yaml", "resume: .*", "resume: null")
    begun = replaced(resumed, "config.yaml", "load_checkpoint: null", "load_checkpoint: a/b")
    damaged = []
    for name, text in [
        ("config.yaml", ""),
        ("config.yaml", "a: ["),
        ("config.yaml", "colour: red"),
        ("versions.json", "{}"),
        ("metrics.jsonl", '{"step" 1}\n'),
        ("metrics.jsonl", '{"loss": 1}\n'),
    ]:
        folder = changed(run, name, lambda _, text=text: text)
        damaged.append(([str(folder)], str(folder / name)))
    for text in ("{}", '{"metrics": {"1": {"puzzles": 2}}}', '{"metrics"'):
        folder = changed(work / "one", "results.json", lambda _, text=text: text)
        damaged.append(([str(run), str(folder)], str(folder / "results.json")))
    capsys.readouterr()
    for words, sentence in [
        (["tiny", str(tmp_path)], "metrics.jsonl"),
        (["tiny", str(work / "one"), "--commit", "abc"], "are of the run: give RUN_DIR too"),
        (["tiny", str(other)], "another run"),
        (["tiny", str(run), str(wrong)], "another model"),
        (["tiny", str(run), str(early)], "evaluates step 20, but the run is at step 40"),
        (["new", str(named)], "has run_name=mine, but a record is of a recipe in config/train"),
        (["new", str(begun)], "began from weights: say with --after"),
        (["new", str(begun), "--after", "other"], "new went on from other, which is not recorded"),
        (["tiny", str(run), str(tmp_path)], "does not exist"),
        *((["tiny", *words], sentence) for words, sentence in damaged),
        (["../tiny", str(run)], "NAME"),
    ]:
        assert exit_code(record.main, words) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and sentence in line
    assert [file.name for file in (tmp_path / "runs").iterdir()] == ["tiny.json"]
    assert (tmp_path / "runs" / "tiny.json").read_text() == before


# -- tables ------------------------------------------------------------------------------------------------------


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
        f"solves {share('sudoku_50k', 16)} of them at depth 16 after 50,000 steps",
        f"it solves {share('sudoku', 16)} (`sudoku`)",
        f"{first} and {second} of the hard ones after 22,660 steps",
        f"{on_the_way('sudoku_50k', 22_500)} of a subset at step 22,500",
        f"{share('sudoku_trm', 16)} and {share('sudoku_trm_seed_1', 16)} of the hard puzzles at depth 16",
        f"EqR solves {share('sudoku_50k', 16)} after 50,000",
        f"right for {share('sudoku_trm', 64, 1200, 8)} of 1,200 hard puzzles with seed 0",
        f"but for {share('sudoku_trm_seed_1', 64, 1200, 8)} with seed 1 (depth 64)",
        f"{100 * vote:.1f}% of 480 puzzles with 128 starts",
        f"{share('sudoku_trm_seed_1', 16, 120, 8, different_init_reset_std=0.1)} of 120 easier puzzles at depth 16",
        f"right for {share('sudoku_trm_seed_1', 16, 1200, 8)} of the 1,200",
        f"right for {share('sudoku', 64, 480, 128, noise_scale=0.5, kernels='float8')} of 480 hard puzzles",
        f"from {share('maze_unique_small_150k', 16, 1000)} to {share('maze_unique_small', 16, 1000)} (5,000 steps)",
        f"from {share('maze_unique', 16, 1000)} to {share('maze_unique_37500', 16, 1000)} (2,500 steps)",
    ):
        assert text in page
    assert share("sudoku", 64, 480, 128, kernels="float8") == "100.0%", "all of them"


def test_a_table_puts_ours_beside_the_papers(values):
    values["evaluations"][0]["metrics"]["4"]["all/exact_accuracy"] = 0.75
    paper = paper_of(values, {"depth": 4, "summary": "tiny"}, {"depth": 8, "summary": "tiny"})
    tiny = parsed(values)
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


def test_of_several_evaluations_the_widest_counts(values):
    """That of most puzzles, and rather not in 8 bits; with the usual random starts."""
    paper, [one, four] = paper_of(values), values["evaluations"]
    float8 = one | {"settings": one["settings"] | {"kernels": "float8"}}
    values["evaluations"] = [one | {"puzzles": 5, "settings": one["settings"] | {"max_puzzles": 5}}, one, float8]
    tiny = parsed(values)
    assert table_text.widest(Setting(depth=4), "real", paper, tiny) == tiny.evaluations[1]
    four["settings"] |= {"different_init_reset_std": 0.1}
    near = parsed(values | {"evaluations": [four]})
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
def test_an_evaluation_knows_its_test_set(dataset, puzzles, limited, split, name, values):
    [evaluation, _] = values["evaluations"]
    evaluation |= {"dataset": dataset, "puzzles": puzzles}
    evaluation["settings"] |= {"split": split, "max_puzzles": puzzles if limited else None}
    assert PAPER.test_set(parsed(values).evaluations[0]) == name


def test_a_streaming_evaluation_of_several_starts_is_answered_by_the_majority(values):
    paper = paper_of(values, {"depth": 4, "breadth": 4, "streaming": True, "exact": 95.3, "nfe": 9})
    _, four = values["evaluations"]
    four["settings"] |= {"streaming": True, "noise_scale": 0.01, "halt_max_steps": [4]}
    four["metrics"]["4"] |= {"selection/majority/exact_accuracy": 1.0, "nfe/mean": 7.5}
    share = {"share": 0.5, "error": 0.25, "puzzles": 4}
    group = {"group": "all", "puzzles": 4, "majority": share, "best_converged": share | {"share": 0}}
    four["by"] = {"source": {"4": [group]}}
    texts = table_text.table_texts(paper, [parsed(values)])
    assert (
        "| EqR, streaming | 4 | 4 | 95.3 at 9 | EqR | 100.00 (> 76.16) (majority of 4) at 7.5 | 11 |" in texts["sudoku"]
    )
    assert "| streaming, majority of 4 | 0.01 | source | all | 4 | 50.00 ± 25.00 |" in texts["groups"]


def test_accuracy_by_groups_is_kept_and_shown(run, work, tmp_path):
    shutil.copytree(work / "four", tmp_path / "four")
    share = {"share": 0.5, "error": 0.25, "puzzles": 4}
    by = {"1": [], "4": [{"group": "17_clue", "puzzles": 4, "exact_accuracy": share, "best_converged": share}]}
    (tmp_path / "four" / "by_source.json").write_text(json.dumps(by))
    tiny = record.record("tiny", run, [tmp_path / "four"])
    assert json.loads(records.to_text(tiny))["evaluations"][0]["by"] == {"source": by}
    row = "| tiny | 4 | best converged of 4 | 0.5 | source | 17_clue | 4 | 50.00 ± 25.00 |"
    assert row in table_text.grouped([tiny])


def test_training_puzzles_are_called_so(values, work):
    paper = paper_of(values, {"depth": 4})
    one = values["evaluations"][0]
    one["settings"]["split"] = "train"
    one["by"] = {"source": {"4": [{"group": "all", "puzzles": 11}]}}
    tiny = parsed(values)
    texts = table_text.table_texts(paper, [tiny])
    assert "| 11 training puzzles of tiny |" in texts["evaluations"] and "| all | 11 training |" in texts["groups"]
    assert "| 86.4 | EqR | not run |" in texts["sudoku"], "not of the test set"
    with pytest.raises(ValueError, match="no evaluation of one start"):
        reproduce.check(tiny, work, "tiny", None, None)


def test_without_runs_every_row_says_so():
    texts = table_text.table_texts(PAPER, [])
    assert texts["sudoku"].count("| not run |") == len(PAPER.tasks["sudoku"].numbers)
    assert all("not run" in text for text in texts.values()) and figures.drawings(PAPER, []) == {}


def test_a_page_that_is_not_current_is_found_and_rewritten(tmp_path, monkeypatch, capsys):
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "read_records", lambda: [])
    for name in tables.PAGES:
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


# -- figures -----------------------------------------------------------------------------------------------------


def test_what_figures_show(values):
    paper = paper_of(values, {"depth": 4, "model": "EqR"}, {"depth": 4, "breadth": 8}, {"depth": 128})
    one, four = values["evaluations"]
    for depth in ("8", "64"):
        for evaluation in (one, four):
            evaluation["metrics"][depth] = evaluation["metrics"]["4"]
    one["metrics"]["64"] = one["metrics"]["64"] | {"all/exact_accuracy": 0.75}
    four["settings"] |= {"noise_scale": one["settings"]["noise_scale"], "different_init": 8}
    four["metrics"]["64"] = four["metrics"]["64"] | {"convergence_top_k/cumulative_exact_acc_top1": 1.0}
    drawn = figures.drawings(paper, [parsed(values)])

    depth = drawn["sudoku_depth"]
    assert [line.x for line in depth.lines] == [[1, 4, 8, 64]] and depth.lines[0].percent[-1] == 75
    assert depth.lines[0].errors[-1] == pytest.approx(100 * math.sqrt(0.75 * 0.25 / 11))
    assert depth.crosses == [figures.Cross("EqR: 86.4", 4, 86.4)], "of one start, and not of more depth"
    [breadth] = drawn["sudoku_breadth"].lines
    assert (breadth.x, breadth.percent) == ([1, 8], [75, 100])
    assert breadth.errors[1] == pytest.approx(100 - 76.16, abs=0.01), "the bound"

    hard = paper.model_copy(update={"test_sets": paper.test_sets | {"real": PAPER.test_sets["real"]}})
    hard.test_sets["hard"] = paper.test_sets["real"]
    other = figures.drawings(hard, [parsed(values)])["sudoku_depth"]
    assert other.lines == depth.lines and other.crosses == [], "the paper's numbers are not of these puzzles"


def test_curves_of_training_go_on_after_the_run_that_gave_the_weights(values):
    paper = paper_of(values)
    begun = parsed(
        values | {"name": "begun", "after": "tiny", "config": values["config"] | {"load_checkpoint": "tiny"}}
    )
    resumed = parsed(values | {"name": "begun", "after": "tiny", "steps": 60})
    task, tiny = paper.tasks["sudoku"], parsed(values)
    for later, steps in ((begun, [10, 20, 30, 40, 50, 60, 70, 80]), (resumed, [10, 20, 30, 40])):
        shown = figures.Shown("tiny", 0, later)
        [line] = figures.while_training(task, PAPER.model_copy(update=dict(paper)), [shown], [tiny, later]).lines
        assert line.x == pytest.approx([step / 1000 for step in steps])


def test_labels_do_not_overlap():
    assert figures.apart([0.5, 0.1, 0.52], 0.1) == pytest.approx([0.5, 0.1, 0.6])
    assert figures.apart([0.95, 0.96, 0.2], 0.1) == pytest.approx([0.87, 0.97, 0.2])
    assert figures.apart([], 0.1) == []


def test_a_figure_says_what_it_was_drawn_from(values, tmp_path):
    pytest.importorskip("matplotlib")
    drawing = figures.drawings(paper_of(values), [parsed(values)])["sudoku_training"]
    assert not drawing.stands_in(tmp_path / "a.png")
    figures.draw(drawing, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG") and drawing.stands_in(tmp_path / "a.png")
    assert not drawing._replace(title="other").stands_in(tmp_path / "a.png")


@pytest.mark.parametrize("name", [file.stem for file in (ROOT / "results").glob("*.png")])
def test_figures_are_small_and_known(name):
    assert name in figures.drawings(PAPER, records.read_records())
    assert (ROOT / "results" / f"{name}.png").stat().st_size < 120_000


@pytest.mark.parametrize("program", [draw_kernels, draw_loss_curves])
def test_pictures_of_the_documents_are_drawn(program, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    for folder in ("results", "tests"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(program, "ROOT", tmp_path)
    program.main()
    [picture] = (tmp_path / "docs").iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG") and (ROOT / "docs" / picture.name).is_file()
    assert capsys.readouterr().out.count("eqr_sudoku") >= 1


# -- shipped checkpoints -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_shipped_checkpoint_is_the_average_alone(run, work, tmp_path, dtype):
    assert exit_code(ship.main, [str(run), str(tmp_path), "--dtype", dtype]) == 0
    small, whole = load_model(str(tmp_path)), load_model(str(run))
    assert small.averaged and small.step == 40
    assert small.puzzle_shape == whole.puzzle_shape and small.data_path == "data/tiny"
    assert small.weights.keys() == whole.weights.keys()
    for name, weight in whole.weights.items():
        assert torch.equal(small.weights[name], weight.to(ship.DTYPES[dtype]))
    model = build(small.arch, Puzzles(work / "data" / "tiny", "test", torch.device("cpu")).shape)
    weights_into(model, small)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    with safe_open(tmp_path / "last.safetensors", "pt") as file:
        assert {key.split("/")[0] for key in file.keys()} <= {"model", "ema"}
        assert '"/' not in "".join(file.metadata().values())


def test_what_cannot_be_shipped_is_one_sentence(run, tmp_path, capsys):
    big = checkpoint.load(run)
    name = next(iter(big.ema))
    big.ema[name] = torch.full_like(big.ema[name], 1e6)
    checkpoint.save(tmp_path / "big.safetensors", big)
    for source, sentence in (
        (tmp_path / "big.safetensors", "not finite as float16"),
        (tmp_path, "there is no checkpoint"),
    ):
        assert exit_code(ship.main, [str(source), str(tmp_path / "new"), "--dtype", "float16"]) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and sentence in line
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_checkpoints_are_small(name):
    file = ROOT / "checkpoints" / name / "last.safetensors"
    assert file.stat().st_size <= SHIPPED[name]
    saved = checkpoint.load(file)
    assert saved.ema and not saved.optimizer and saved.slots is None
    assert records.portable(saved.config) == saved.config


# -- reproducing -------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_compared_with_its_record(tiny, values, run, work, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(work)
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    assert exit_code(ship.main, [str(run), str(tmp_path)]) == 0
    file = tmp_path / "last.safetensors"
    with pytest.raises(ValueError, match="--puzzles should be at most 11, .* data/tiny, but it is 12"):
        reproduce.check(tiny, file, "tiny", 12, 4)
    assert reproduce.check(tiny, file, "tiny", 5, 4)
    assert "5 puzzles (recorded: 11)" in capsys.readouterr().out

    one = values["evaluations"][0]
    one["metrics"]["1"]["all/exact_accuracy"] += 0.9
    assert not reproduce.check(parsed(values), file, "tiny", None, 3)
    out = capsys.readouterr().out
    assert "NOT as recorded" in out and "\n    4" not in out, "deeper than asked for"

    one["puzzles"] = 12
    with pytest.raises(ValueError, match="data/tiny has 11 test puzzles, but 12 others"):
        reproduce.check(parsed(values), file, "tiny", None, None)
    with pytest.raises(ValueError, match="no evaluation of one start"):
        reproduce.check(tiny, file, "other", None, None)


def test_a_run_is_evaluated_again_as_recorded(tiny, values, run, work, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(work)
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    again = tmp_path / "again (ü), x"
    shutil.copytree(run, again)
    with pytest.raises(ValueError, match="again .* is at step 40, but the recorded run ended at step 41"):
        reproduce.reproduce(parsed(values | {"steps": 41}), None, again)
    elsewhere = values["evaluations"][0] | {"dataset": "elsewhere"}
    four = parsed(values | {"evaluations": [elsewhere, values["evaluations"][1]]})
    new = records.read_record(reproduce.reproduce(four, None, again))
    out = capsys.readouterr().out
    assert new.config == tiny.config and "best converged of 4, 11 puzzles" in out
    assert "left out are the evaluations on data/elsewhere, which is missing and cannot be built\n" in out
    assert [evaluation.metrics for evaluation in new.evaluations] == [four.evaluations[1].metrics]
    file = again / "evaluation_0" / "results.json"
    file.write_text(file.read_text().replace('"different_init": 4', '"different_init": 3'))
    with pytest.raises(ValueError, match="evaluation_0 holds an evaluation with another different_init"):
        reproduce.reproduce(four, None, again)
    text = file.read_text().replace('"different_init": 3', '"different_init": 4')
    file.write_text(re.sub(r'"max_puzzles": \w+', '"max_puzzles": 3', text).replace('"puzzles": 11', '"puzzles": 3'))
    with pytest.raises(ValueError, match="with another number of puzzles"):
        reproduce.reproduce(four, None, again)


def test_a_recorded_run_is_trained_and_evaluated_again(tiny, tmp_path, tiny_data, monkeypatch, capsys):
    """All that `scripts/reproduce.sh NAME` does on a GPU, but for building the data; on a CPU it is the same run."""
    shutil.copytree(tiny_data, tmp_path / "data" / "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as the recorded run had: another number rounds otherwise
    one = tiny.model_copy(update={"evaluations": tiny.evaluations[:1]})
    new = records.read_record(reproduce.reproduce(one, None, None))
    assert only_run(tmp_path / "outputs").name == new.name and new.config == tiny.config
    assert [evaluation.metrics for evaluation in new.evaluations] == [tiny.evaluations[0].metrics]
    assert new.training == tiny.training and "tiny, one start, 11 puzzles" in capsys.readouterr().out


def test_standard_errors():
    assert accuracy.standard_error(0.5, 100) == pytest.approx(0.05)


def test_how_probable_a_difference_is():
    assert accuracy.chance(1.0, 10, 1.0, 1000) == accuracy.chance(0.0, 1, 0.0, 5) == 1
    assert accuracy.chance(8 / 10, 10, 1 / 6, 6) == pytest.approx(5 / 143)  # right and wrong: 8, 2 and 1, 5
    assert accuracy.chance(1.0, 1000, 89 / 90, 90) == pytest.approx(90 / 1090), "which is no mistake"
    assert accuracy.chance(0.7148, 11_999, 0.7148, 11_999) == pytest.approx(1)
    normal = math.erfc(3 / 2**0.5)
    three_errors = 0.5 + 3 * (0.25 * 2 / 100_000) ** 0.5
    assert accuracy.chance(0.5, 100_000, three_errors, 100_000) == pytest.approx(normal, rel=0.05)
    assert reproduce.RARE == pytest.approx(normal, rel=0.01)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("maze_unique --check --puzzles 0", "--puzzles should be 1 or more"),
        ("maze_unique --puzzles 5", "--puzzles goes with --check"),
        ("maze_unique --check --source-dir .", "--source-dir goes with sudoku"),
        ("sudoku --check --source-dir no", "--source-dir should hold train.csv and test.csv, but no/train.csv"),
        ("sudoku", "training needs a GPU"),
    ],
)
def test_bad_input_is_one_sentence(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # on a GPU the last one would train
    assert exit_code(reproduce.main, words.split()) == 1
    out, error = capsys.readouterr()
    assert out == "" and error.startswith(f"error: {sentence}") and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_only_a_run_of_the_recipe_is_compared(run, capsys):
    assert exit_code(reproduce.main, ["maze_unique", "--run", str(run)]) == 1
    assert capsys.readouterr().err == f"error: {run} is a run of quickstart, not of eqr_maze_unique_tuned\n"
    assert not list(run.glob("evaluation_*"))


def test_that_data_are_there_already_is_said(work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    assert reproduce.build("tiny") == 11 and capsys.readouterr().err == ""
    assert reproduce.build("tiny", Path("csvs")) == 11
    assert capsys.readouterr().err == "data/tiny is there already, so csvs is not read\n"


TRAINING = """trap 'sleep 1; touch saved; exit 1' INT TERM
touch started
while :; do sleep 0.1; done
"""
PARENT = """import signal, sys
from pathlib import Path
from reproduction import reproduce
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
reproduce.ROOT = Path(sys.argv[1])
reproduce._run = lambda given: reproduce.script("train.sh")
sys.exit(reproduce.main(["sudoku"]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_training_that_is_stopped_saves_first(number, code, tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "train.sh").write_text(TRAINING)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(words, cwd=tmp_path, env=environment, start_new_session=True) as parent:
        try:
            waited = time.monotonic()
            while not (tmp_path / "started").is_file() and time.monotonic() < waited + 120:
                time.sleep(0.1)
            time.sleep(0.2)
            if number == signal.SIGINT:
                os.killpg(parent.pid, number)  # as a terminal does
            else:
                parent.send_signal(number)
            assert parent.wait(60) == code and (tmp_path / "saved").is_file()
        except BaseException:
            os.killpg(parent.pid, signal.SIGKILL)
            raise


@pytest.mark.parametrize("missing", ["results/runs/maze_unique.json", "checkpoints/maze_unique"])
def test_what_is_missing_is_named(missing, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    monkeypatch.setattr(reproduce, "RUNS", tmp_path / "results" / "runs")
    if missing.startswith("checkpoints"):
        (tmp_path / "results" / "runs").mkdir(parents=True)
        (tmp_path / "results" / "runs" / "maze_unique.json").write_text(records.to_text(tiny))
    assert exit_code(reproduce.main, ["maze_unique", "--check"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert missing in line and "is not there" in line


def test_the_data_are_built_by_the_documented_commands():
    pages = [(ROOT / "README.md").read_text(), *(page.read_text() for page in (ROOT / "docs").glob("*.md"))]
    text = re.sub(r"\\\n\s*", "", "".join(pages))
    for name in ("maze-30x30-unique-1k", "sudoku-extreme-1k-aug-1000"):
        assert f"python -m dataset.{reproduce.BUILDERS[name]} --output-dir data/{name}\n" in text


@pytest.fixture(scope="module")
def checks(tmp_path_factory) -> Path:
    """Where shipped models are checked; mazes are built once."""
    return tmp_path_factory.mktemp("checks")


@pytest.mark.parametrize(("name", "puzzles"), [("maze_unique", 2), ("maze_unique_small", 4), ("sudoku", 2)])
def test_a_shipped_model_is_what_was_recorded(name, puzzles, checks):
    """The check that a user makes, on few puzzles."""
    words = ["bash", str(ROOT / "scripts" / "reproduce.sh"), name, "--check", "--puzzles", str(puzzles)]
    environment = os.environ | {"VIRTUAL_ENV": sys.prefix, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300, cwd=checks)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{reproduce.TASKS[name].dataset}, one start, {puzzles} puzzles" in done.stdout
