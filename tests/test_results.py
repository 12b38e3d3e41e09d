"""results/: recording a run, the tables and pages, shipped checkpoints, and checking one against the record."""

import copy
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

import pytest
import torch
from conftest import ROOT, TINY, command, exit_code, only_run
from safetensors import safe_open

from config.load import load_eval, load_pretrain
from dataset.puzzles import Puzzles
from models.build import build
from reproduction import blocks, record, recorded, reproduce, ship, tables
from runtime import checkpoint
from runtime.load import load_model, weights_into

PAPER = recorded.read(recorded.RUNS.parent / "paper.json")
SHIPPED = {"maze_unique": 600_000, "maze_unique_small": 100_000, "sudoku": 12_000_000}
"""The most bytes that a shipped checkpoint may have."""
assert SHIPPED.keys() == reproduce.TASKS.keys()


STREAMED = {"depth": 4, "breadth": 4, "streaming": True, "nfe": 9}


@pytest.fixture(scope="module")
def work(tiny_data, tmp_path_factory) -> Path:
    """A folder with data/tiny, and a run in two slices with two evaluations."""
    work = tmp_path_factory.mktemp("work")
    shutil.copytree(tiny_data, work / "data" / "tiny")
    words = [*TINY, f"dataset.data_path={work}/data/tiny", "eval_puzzles=5", "eval_interval_steps=10", "lr=1e-2"]
    steps = [[*words, f"checkpoint_path={work}/outputs", "max_steps=20"], ["max_steps=40"]]
    for i, slice_ in enumerate(steps):
        done = command("pretrain.py", *(slice_ if i == 0 else [f"resume={only_run(work / 'outputs')}", *slice_]))
        assert done.returncode == 0, done.stderr
    run = only_run(work / "outputs")
    for name, more in {"one": [], "four": ["different_init=4", "convergence_top_k=1", "noise_scale=0.5"]}.items():
        evaluate = [f"checkpoint='{run}'", "halt_max_steps=[1,4]", f"eval_dir={work / name}", *more]
        assert command("evaluate.py", *evaluate).returncode == 0
    return work


@pytest.fixture(scope="module")
def run(work) -> Path:
    return only_run(work / "outputs")


@pytest.fixture
def found(run, work) -> recorded.Record:
    return record.record(run, [work / "one", work / "four"], hardware="2 CPU cores") | {"name": "tiny"}


def as_task(found: recorded.Record, **changes) -> recorded.Record:
    """The paper's numbers as if the tiny run's data were the Sudoku task's, and the run one of eqr_sudoku."""
    found["config"]["run_name"] = "eqr_sudoku"
    return PAPER | {"sudoku": PAPER["sudoku"] | {"data": "tiny"} | changes}


# -- recording ---------------------------------------------------------------------------------------------------


def test_a_record_holds_what_repeats_the_run(found, run):
    assert found["steps"] == 40 and found["seed"] == 0 and found["hardware"] == "2 CPU cores"
    assert found["commit"] == json.loads((run / "versions.json").read_text())["commit"]
    assert found["config"]["dataset"]["data_path"] == "data/tiny"
    assert '"/' not in record.to_text(found), "a path of this machine"
    assert json.loads(record.to_text(found)) == found

    assert found["training"]["rows"][-1][0] == 40 and len(found["training"]["rows"]) == 40
    assert [row[:2] for row in found["evaluations_on_the_way"]["rows"]] == [[10, 5], [20, 5], [20, 11], [30, 5]] + [
        [40, 5],
        [40, 11],
    ]
    words = recorded.training_words(found)
    again = recorded.portable(load_pretrain([f"train={words[0]}", *words[1:]]))
    assert again.model_dump(mode="json") == found["config"]
    for one in found["evaluations"]:
        words = recorded.evaluation_words(found, one)
        settings = load_eval(["checkpoint=x", *words]).model_dump(mode="json")
        assert {name: settings[name] or one["settings"][name] for name in one["settings"]} == one["settings"]
    assert recorded.evaluation_words(found, found["evaluations"][0]) == ["halt_max_steps=[1,4]"]


def test_a_run_that_went_on_from_another_names_it(found, monkeypatch, tmp_path):
    first = found | {"name": "first", "steps": 30}
    changes = {"lr": 1e-3, "max_steps": 40}
    resumed = found | {"name": "resumed", "after": "first", "config": found["config"] | changes}
    loaded = resumed | {"name": "loaded", "config": resumed["config"] | {"load_checkpoint": "first"}}
    runs = [first, resumed, loaded]
    assert recorded.chain(resumed, runs) == [resumed, first] and recorded.chain(first, runs) == [first]
    with pytest.raises(ValueError, match="resumed went on from first, which is not recorded"):
        recorded.chain(resumed, runs[1:])
    with pytest.raises(ValueError, match="first went on from resumed, which went on from it"):
        recorded.chain(resumed, [first | {"after": "resumed"}, resumed])

    words = recorded.training_words(resumed, [first], "DIR")
    assert words == ["resume=DIR", "max_steps=40", "lr=0.001"]
    name, *words = recorded.training_words(loaded, [first], "DIR")
    assert name == "quickstart" and {'load_checkpoint="DIR"', "lr=0.001", "max_steps=40"} <= set(words)
    assert recorded.steps(resumed, runs) == "40" and recorded.steps(loaded, runs) == "30 + 40"
    again = loaded | {"name": "again", "after": "loaded", "steps": 60}
    assert recorded.steps(again, [*runs, again]) == "30 + 60", "it went on as the run that began from weights"
    assert recorded.training_words(again, [loaded, first], "DIR") == ["resume=DIR", "max_steps=60"]
    anew = again | {"name": "anew", "config": again["config"] | {"seed": 7}}
    assert recorded.steps(anew, [*runs, anew]) == "70 + 60", "a run that goes on keeps its seed"
    assert {'load_checkpoint="DIR"', "seed=7"} <= set(recorded.training_words(anew, [loaded, first], "DIR"))
    lines = blocks.commands([resumed, first]).splitlines()
    assert lines[1] == "# first" and "bash scripts/train.sh resume=RUN_DIR_OF_first max_steps=40 lr=0.001" in lines

    for one in runs:
        (tmp_path / f"{one['name']}.json").write_text(record.to_text(one))
    trained = []
    monkeypatch.setattr(reproduce, "RUNS", tmp_path)
    monkeypatch.setattr(reproduce, "script", lambda *words: trained.append(words) or f"done: run{len(trained)}\n")
    assert reproduce.train(resumed) == Path("run2")
    assert [words[:3] for words in trained][1] == ("train.sh", "resume=run1", "max_steps=40")
    assert trained[0][:2] == ("train.sh", "quickstart") and "lr=0.01" in trained[0]


def test_evaluations_are_added_or_replaced(found, run, work):
    first = record.record(run, [work / "one"], hardware="a", note="b")
    both = record.record(run, [work / "four"], first, note="c")
    assert both["evaluations"] == found["evaluations"] and (both["hardware"], both["note"]) == ("a", "c")
    assert record.record(run, [work / "one"], both)["evaluations"] == found["evaluations"]
    one, four = found["evaluations"]
    assert one["settings"]["noise_scale"] == 0.01 and four["settings"]["noise_scale"] == 0.5
    assert recorded.exact(one, 4) == one["metrics"]["4"]["all/exact_accuracy"]
    assert recorded.exact(four, 4) == four["metrics"]["4"]["convergence_top_k/cumulative_exact_acc_top1"]


def test_evaluations_are_added_without_the_run(found, run, work, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RUNS", tmp_path)
    assert exit_code(record.main, ["tiny", str(run), str(work / "one"), "--hardware", "2 CPU cores"]) == 0
    assert exit_code(record.main, ["tiny", str(work / "four"), "--note", "later"]) == 0
    both = recorded.read(tmp_path / "tiny.json")
    assert both["evaluations"] == found["evaluations"] and both["training"] == found["training"]
    assert (both["hardware"], both["note"]) == ("2 CPU cores", "later")
    assert exit_code(record.main, ["other", str(work / "four")]) == 1 and "metrics.jsonl" in capsys.readouterr().err


def test_a_run_that_was_stopped_is_trained_as_far_again(found):
    stopped = found | {"config": found["config"] | {"epochs": 50, "max_steps": None}}
    assert "max_steps=40" in recorded.training_words(stopped)


def test_a_streaming_evaluation_of_several_starts_is_answered_by_the_majority(found):
    paper = as_task(
        found, numbers=[{"model": "EqR", "config": "eqr_sudoku", "source": "EqR", "exact": 95.3} | STREAMED]
    )
    _, four = found["evaluations"]
    four["settings"] |= {"streaming": True, "noise_scale": 0.01}
    four["metrics"]["4"] |= {"selection/majority/exact_accuracy": 1.0, "nfe/mean": 7.5}
    share = {"share": 0.5, "error": 0.25, "puzzles": 4}
    four["by"] = {
        "source": {"4": [{"group": "all", "puzzles": 4, "majority": share, "best_converged": share | {"share": 0}}]}
    }
    texts = blocks.blocks(paper, [found])
    assert "| EqR, streaming | `eqr_sudoku` | 4 | 4 | 95.3 at 9 |" in texts["sudoku"]
    assert "100.00 (> 76.16) (majority of 4) at 7.5 | 11 puzzles" in texts["sudoku"]
    assert "| streaming, majority of 4 | 0.01 | source | all | 4 | 50.00 ± 25.00 |" in texts["groups"]


def test_eight_bits_are_another_evaluation(found, run, work, tmp_path):
    shutil.copytree(work / "one", tmp_path / "one")
    file = tmp_path / "one" / "results.json"
    file.write_text(file.read_text().replace('"kernels": "auto"', '"kernels": "float8"'))
    both = record.record(run, [tmp_path / "one"], found)
    assert both["evaluations"][:2] == found["evaluations"] and len(both["evaluations"]) == 3
    assert 'kernels="float8"' in recorded.evaluation_words(found, both["evaluations"][2])
    assert ", float8 |" in blocks.evaluated(PAPER, [both | {"name": "tiny"}])


def test_random_starts_of_another_std_are_another_evaluation(found):
    number = {"model": "EqR", "config": "eqr_sudoku", "depth": 4, "breadth": 4, "noise_scale": 0.5}
    task, (_, four) = as_task(found)["sudoku"], found["evaluations"]
    assert blocks.measured(number, task, [found]) == [(found, four)]
    assert recorded.selection(four) == "best converged of 4"
    four["settings"]["different_init_reset_std"] = 0.1
    assert blocks.measured(number, task, [found]) == []
    assert "| best converged of 4 starts of std 0.1 | 0.5 |" in blocks.evaluated(PAPER, [found])
    assert "different_init_reset_std=0.1" in recorded.evaluation_words(found, four)


def test_slices_of_training_add_up():
    rates = ((10, 40.0, 4.0), (20, 80.0, 4.0))  # two processes, then four
    names = ("step", "train/samples_per_second", "train/process_seconds")
    log = [dict(zip(names, line, strict=True)) for line in rates]
    assert record.training_time([*log, {"step": 20, "eval/puzzles": 5}], 8) == (3.0, 8.0)


def test_curves_are_thinned():
    log = [{"step": step, "train/lm_loss": float(step)} for step in range(1, 1001)]
    rows = record.curves(log)["training"]["rows"]
    assert len(rows) <= record.POINTS and rows[0] == [4, 2.5, None, None] and rows[-1][0] == 1000


def test_mistakes_in_recording_are_one_sentence(run, work, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RUNS", tmp_path / "runs")
    assert exit_code(record.main, ["tiny", str(run), str(work / "one"), "--hardware", "2 cores"]) == 0
    before = (tmp_path / "runs" / "tiny.json").read_text()
    other = tmp_path / "other"
    shutil.copytree(run, other)
    (other / "config.yaml").write_text((run / "config.yaml").read_text().replace("seed: 0", "seed: 1"))
    wrong = tmp_path / "wrong"
    shutil.copytree(work / "one", wrong)
    (wrong / "results.json").write_text((wrong / "results.json").read_text().replace('"H_cycles": 1', '"H_cycles": 2'))
    early = tmp_path / "early"
    shutil.copytree(work / "one", early)
    (early / "results.json").write_text((early / "results.json").read_text().replace('"step": 40', '"step": 20'))
    named = tmp_path / "named"
    shutil.copytree(run, named)
    config = (run / "config.yaml").read_text()
    (named / "config.yaml").write_text(config.replace("run_name: quickstart", "run_name: mine"))
    begun = tmp_path / "begun"
    shutil.copytree(run, begun)
    began = re.sub("resume: .*", "resume: null", config).replace("load_checkpoint: null", "load_checkpoint: a/b")
    (begun / "config.yaml").write_text(began)
    damaged = []
    for name, text, evaluated in [
        ("config.yaml", "", []),
        ("config.yaml", "a: [", []),
        ("config.yaml", "colour: red", []),
        ("versions.json", "{}", []),
        ("results.json", "{}", [work / "one"]),
        ("results.json", '{"metrics": {"1": {"puzzles": 2}}}', [work / "one"]),
        ("metrics.jsonl", '{"step" 1}\n', []),
        ("metrics.jsonl", '{"loss": 1}\n', []),
        ("results.json", '{"metrics"', [work / "one"]),
    ]:
        folder = tmp_path / f"damaged {len(damaged)}"
        shutil.copytree(*evaluated or [run], folder)
        (folder / name).write_text(text)
        damaged.append(([str(run), str(folder)] if evaluated else [str(folder)], str(folder / name)))
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


def test_the_pages_say_what_the_records_say(capsys):
    assert exit_code(tables.main, ["--check"]) == 0, capsys.readouterr().err


def test_the_front_page_says_in_words_what_the_records_say():
    by_name = {run["name"]: run for run in recorded.runs()}

    def said(name: str, depth: int, puzzles: int = 11_999, breadth: int = 1, majority=False, **settings) -> str:
        run = by_name[name]
        wanted = {"different_init": breadth, "different_init_reset_std": 1.0, "kernels": None, "split": "test"}
        wanted |= {"streaming": False, "noise_scale": run["config"]["arch"].get("noise_scale")} | settings
        fitting = [one for one in run["evaluations"] if one["puzzles"] == puzzles]
        [one] = [one for one in fitting if all(one["settings"].get(key) == value for key, value in wanted.items())]
        voted = one["metrics"][str(depth)].get("selection/majority/exact_accuracy")
        return f"{100 * (voted if majority else recorded.exact(one, depth)):.1f}%"

    [half] = [row[2] for row in by_name["sudoku_50k"]["evaluations_on_the_way"]["rows"] if row[0] == 22_500]
    first, second = "sudoku_trm", "sudoku_trm_seed_1"
    page = (recorded.ROOT / "README.md").read_text()
    for text in (
        f"({said('maze_unique_small_150k', 16, 1000)} before)",
        f"{said('sudoku', 64, breadth=8)} with 8 starts at depth 64",
        f"had {100 * half:.0f}% of a subset at step 22,500, and {said('sudoku_50k', 16)} of all after 50,000",
        f"{said(first, 16)[:-1]} and {said(second, 16)} (two seeds)",
        f"{said(first, 64, 1200, 8)} of 1,200 puzzles at depth 64 with seed 0, for {said(second, 64, 1200, 8)} with",
        f"majority holds up better ({said(second, 64, 480, 128, True, kernels='float8')} of 480 with 128 starts)",
        f"{said(second, 16, 120, 8, different_init_reset_std=0.1)} of 120 easier puzzles at depth 16",
        f"with 1 for {said(second, 16, 1200, 8)} of the 1,200",
    ):
        assert text in page


def test_records_name_no_machine():
    for run in recorded.runs():
        assert '"/' not in json.dumps(run), f"{run['name']} holds a path of a machine"
        assert run["commit"] != "unknown" and run["hardware"] != "not recorded"


def test_a_table_puts_ours_beside_the_papers(found):
    number = {"model": "EqR", "config": "eqr_sudoku", "depth": 4, "exact": 86.4, "source": "EqR", "summary": True}
    paper = as_task(found, numbers=[number])
    one, four = found["evaluations"]
    one["metrics"]["4"]["all/exact_accuracy"] = 0.75
    texts = blocks.blocks(paper, [found])
    ours = "75.00 ± 13.06 | 11 puzzles that are not the paper's | [tiny](runs/tiny.json) | 40 |"
    assert f"| EqR | `eqr_sudoku` | 4 | 1 | 86.4 | arXiv 2605.21488 | {ours}" in texts["sudoku"]
    assert "| `eqr_sudoku` | 4 | 1 | 86.4 | 75.00 ± 13.06 | 11 | 40 |" in texts["summary"]
    assert (
        f"| tiny | 40 | one start | {found['evaluations'][0]['puzzles']} puzzles that are not the paper's |"
        in texts["sudoku_depths"]
    )
    assert "not run" in texts["maze_unique"] and "sudoku.png" in texts["sudoku"]
    assert (
        texts["evaluations"].count("not the paper's") == 2 and "bash scripts/train.sh eqr_sudoku" in texts["commands"]
    )

    for change in ({"depth": 16}, {"noise_scale": 0.5}, {"breadth": 4}, {"streaming": True}, {"config": "trm_sudoku"}):
        assert blocks.measured(number | change, paper["sudoku"], [found]) == []
    assert blocks.measured(number | {"breadth": 4, "noise_scale": 0.5}, paper["sudoku"], [found]) == [(found, four)]


def test_accuracy_by_groups_is_kept_and_shown(run, work, tmp_path):
    shutil.copytree(work / "four", tmp_path / "four")
    share = {"share": 0.5, "error": 0.25, "puzzles": 4}
    by = {"1": [], "4": [{"group": "17_clue", "puzzles": 4, "exact_accuracy": share, "best_converged": share}]}
    (tmp_path / "four" / "by_source.json").write_text(json.dumps(by))
    found = record.record(run, [tmp_path / "four"]) | {"name": "tiny"}
    assert found["evaluations"][0]["by"] == {"source": by}
    assert "| tiny | 4 | best converged of 4 | 0.5 | source | 17_clue | 4 | 50.00 ± 25.00 |" in blocks.grouped([found])


def test_training_puzzles_are_called_so(found, work):
    one = found["evaluations"][0]
    one["settings"]["split"] = "train"
    one["by"] = {"source": {"4": [{"group": "all", "puzzles": 11}]}}
    paper = as_task(found)
    texts = blocks.blocks(paper, [found])
    assert "| 11 training puzzles of tiny |" in texts["evaluations"] and "| all | 11 training |" in texts["groups"]
    assert blocks.measured({"config": "eqr_sudoku", "depth": 4}, paper["sudoku"], [found]) == [], "not of the test set"
    assert blocks.figures(paper, [found]) == ["sudoku"]
    found["evaluations"] = [one]
    assert blocks.figures(paper, [found]) == []
    with pytest.raises(ValueError, match="no evaluation of one start"):
        reproduce.check(found, work, "tiny", None, None)


def test_without_runs_every_row_says_so():
    texts = blocks.blocks(PAPER, [])
    assert texts["sudoku"].count("| not run |") == len(PAPER["sudoku"]["numbers"])
    assert all("not run" in text for text in texts.values())


def test_a_page_that_is_not_current_is_found_and_rewritten(tmp_path, monkeypatch, capsys):
    (tmp_path / "results").mkdir()
    shutil.copy(recorded.RUNS.parent / "paper.json", tmp_path / "results")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "RUNS", tmp_path / "results" / "runs")
    monkeypatch.setattr(tables, "runs", lambda: [])
    for name in tables.PAGES:
        (tmp_path / name).write_text("before\n<!-- results:runs -->\nold\n<!-- /results -->\nafter\n")
    assert exit_code(tables.main, ["--check"]) == 1 and "README.md" in capsys.readouterr().err
    assert exit_code(tables.main, []) == 0 and exit_code(tables.main, ["--check"]) == 0
    text = (tmp_path / "README.md").read_text()
    assert text == "before\n<!-- results:runs -->\nnot run\n<!-- /results -->\nafter\n"
    (tmp_path / "README.md").write_text("<!-- results:rums -->\n<!-- /results -->\n")
    assert exit_code(tables.main, []) == 1 and "there is no table rums" in capsys.readouterr().err


def test_figures_are_drawn(found, tmp_path):
    pytest.importorskip("matplotlib")
    from reproduction.figures import draw

    task = as_task(found)["sudoku"]
    empty = copy.deepcopy(found) | {"evaluations": []}
    empty["evaluations_on_the_way"]["rows"] = []
    draw(task, [found, empty], tmp_path / "sudoku.png")
    assert (tmp_path / "sudoku.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_figure_shows(found):
    pytest.importorskip("matplotlib")
    from reproduction.figures import _lines, _on_the_way

    task = as_task(found)["sudoku"]
    one, noisy = found["evaluations"]
    fewer = one | {"puzzles": 5}
    four = copy.deepcopy(noisy)
    four["settings"]["noise_scale"] = one["settings"]["noise_scale"]
    near = copy.deepcopy(four) | {"puzzles": 12}
    near["settings"]["different_init_reset_std"] = 0.1
    found["evaluations"] = [fewer, one, fewer, noisy, four, near]
    assert [shown for _, shown in _lines(task, [found])] == [one, four], (
        "training's noise, usual starts, and most puzzles"
    )

    begun = copy.deepcopy(found) | {"name": "begun", "after": "tiny"}
    begun["config"]["load_checkpoint"] = "tiny"
    begun["evaluations_on_the_way"]["rows"] = [[10, 11, 0.5]]
    assert _on_the_way([begun], [found, begun])[0] == ("begun", [50], [50.0])


# -- shipped checkpoints -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_shipped_checkpoint_is_the_average_alone(run, work, tmp_path, dtype, monkeypatch):
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
    assert recorded.portable(saved.config) == saved.config


# -- reproducing -------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_compared_with_its_record(found, run, work, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(work)
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    ship.main([str(run), str(tmp_path)])
    file = tmp_path / "last.safetensors"
    with pytest.raises(ValueError, match="--puzzles should be at most 11, .* data/tiny, but it is 12"):
        reproduce.check(found, file, "tiny", 12, 4)
    assert reproduce.check(found, file, "tiny", 5, 4)
    assert "5 puzzles (recorded: 11)" in capsys.readouterr().out

    found["evaluations"][0]["metrics"]["1"]["all/exact_accuracy"] += 0.9
    assert not reproduce.check(found, file, "tiny", None, 3)
    out = capsys.readouterr().out
    assert "NOT as recorded" in out and "\n    4" not in out, "deeper than asked for"

    found["evaluations"][0]["puzzles"] = 12
    with pytest.raises(ValueError, match="data/tiny has 11 test puzzles, but 12 others"):
        reproduce.check(found, file, "tiny", None, None)
    with pytest.raises(ValueError, match="no evaluation of one start"):
        reproduce.check(found, file, "other", None, None)


def test_a_run_is_evaluated_again_as_recorded(found, run, work, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(work)
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    again = tmp_path / "again (ü), x"
    shutil.copytree(run, again)
    found["evaluations"] = found["evaluations"][1:]
    with pytest.raises(ValueError, match="again .* is at step 40, but the recorded run ended at step 41"):
        reproduce.reproduce(found | {"steps": 41}, None, again)
    new = recorded.read(reproduce.reproduce(found, None, again))
    assert new["config"] == found["config"] and "best converged of 4, 11 puzzles" in capsys.readouterr().out
    [one], [before] = new["evaluations"], found["evaluations"]
    assert one["metrics"] == before["metrics"]
    file = again / "evaluation_0" / "results.json"
    file.write_text(file.read_text().replace('"different_init": 4', '"different_init": 3'))
    with pytest.raises(ValueError, match="evaluation_0 holds an evaluation with another different_init"):
        reproduce.reproduce(found, None, again)
    text = file.read_text().replace('"different_init": 3', '"different_init": 4')
    file.write_text(re.sub(r'"max_puzzles": \w+', '"max_puzzles": 3', text).replace('"puzzles": 11', '"puzzles": 3'))
    with pytest.raises(ValueError, match="with another number of puzzles"):
        reproduce.reproduce(found, None, again)


def test_a_recorded_run_is_trained_and_evaluated_again(found, tmp_path, tiny_data, monkeypatch, capsys):
    """All that `scripts/reproduce.sh NAME` does on a GPU, but for building the data; on a CPU it is the same run."""
    shutil.copytree(tiny_data, tmp_path / "data" / "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as the recorded run had: another number rounds otherwise
    new = recorded.read(reproduce.reproduce(found, None, None))
    assert only_run(tmp_path / "outputs").name == new["name"] and new["config"] == found["config"]
    assert [one["metrics"] for one in new["evaluations"]] == [one["metrics"] for one in found["evaluations"]]
    assert new["training"] == found["training"] and "tiny, one start, 11 puzzles" in capsys.readouterr().out


def test_standard_errors():
    assert recorded.standard_error(0.5, 100) == pytest.approx(0.05)


def test_how_probable_a_difference_is():
    assert recorded.chance(1.0, 10, 1.0, 1000) == recorded.chance(0.0, 1, 0.0, 5) == 1
    assert recorded.chance(8 / 10, 10, 1 / 6, 6) == pytest.approx(5 / 143)  # right and wrong: 8, 2 and 1, 5
    assert recorded.chance(1.0, 1000, 89 / 90, 90) == pytest.approx(90 / 1090), "which is no mistake"
    assert recorded.chance(0.7148, 11_999, 0.7148, 11_999) == pytest.approx(1)
    normal = math.erfc(3 / 2**0.5)
    three_errors = 0.5 + 3 * (0.25 * 2 / 100_000) ** 0.5
    assert recorded.chance(0.5, 100_000, three_errors, 100_000) == pytest.approx(normal, rel=0.05)
    assert reproduce.RARE == pytest.approx(normal, rel=0.01)


def script(*words: str, cwd: Path = ROOT):
    environment = os.environ | {"VIRTUAL_ENV": sys.prefix, "OMP_NUM_THREADS": "1"}
    command = ["bash", str(ROOT / "scripts" / "reproduce.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, cwd=cwd)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("maze_unique --check --puzzles 0", "--puzzles should be 1 or more"),
        ("maze_unique --puzzles 5", "--puzzles goes with --check"),
        ("maze_unique --check --source-dir .", "--source-dir goes with sudoku"),
        (
            "sudoku --check --source-dir missing",
            "--source-dir should hold train.csv and test.csv, but missing/train.csv",
        ),
    ],
)
def test_bad_input_is_one_sentence(words, sentence):
    done = script(*words.split())
    assert done.returncode == 1 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ") and sentence in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, on which this would train")
@pytest.mark.parametrize("task", ["sudoku", "maze_unique"])
def test_nothing_is_trained_without_a_gpu(task, tmp_path):
    done = script(task, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == "" and list(tmp_path.iterdir()) == []
    [line] = done.stderr.splitlines()
    assert line.startswith("error: training needs a GPU")


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
def test_what_is_missing_is_named(missing, found, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    monkeypatch.setattr(reproduce, "RUNS", tmp_path / "results" / "runs")
    if missing.startswith("checkpoints"):
        (tmp_path / "results" / "runs").mkdir(parents=True)
        (tmp_path / "results" / "runs" / "maze_unique.json").write_text(record.to_text(found))
    assert exit_code(reproduce.main, ["maze_unique", "--check"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert missing in line and "is not there" in line


def test_the_data_are_built_by_the_readmes_commands():
    readme = re.sub(r"\\\n\s*", "", (ROOT / "README.md").read_text())
    for name in ("maze-30x30-unique-1k", "sudoku-extreme-1k-aug-1000"):
        assert f"python -m dataset.{reproduce.BUILDERS[name]} --output-dir data/{name}\n" in readme


@pytest.mark.parametrize(("name", "puzzles"), [("maze_unique", 4), ("maze_unique_small", 8), ("sudoku", 2)])
def test_a_shipped_model_is_what_was_recorded(name, puzzles, tmp_path):
    """The check that a user makes, on few puzzles."""
    done = script(name, "--check", "--puzzles", str(puzzles), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{reproduce.TASKS[name].check_data}, one start, {puzzles} puzzles" in done.stdout
