"""Test puzzles without a known answer: they are asked, but nothing is measured against what stands in for it."""

import csv
import json
import math

import numpy as np
import pytest
from conftest import CPU, TINY, exit_code, metrics_of, only_run

import evaluate
import pretrain
from dataset.build_arc_dataset import main as build_arc
from dataset.puzzles import UNANSWERED, Puzzles
from evaluation import by_group, report
from runtime.run_log import read_metrics

ONE, OTHER, DOT = [[1, 2], [2, 1]], [[2, 1], [1, 2]], [[0]]
SHOWN = [{"input": ONE, "output": OTHER}, {"input": OTHER, "output": ONE}]
KNOWN = {"input": [[4, 3]], "output": [[3, 4]]}
TESTS = {
    "none": {"c": [{"input": [[3, 4]]}], "d": [{"input": [[5]]}]},
    "some": {
        "c": [{"input": [[3, 4]]}, {"input": [[4, 3]], "output": [[3, 4]]}],
        "d": [{"input": [[5]], "output": DOT}],
    },
    "known": {"c": [KNOWN], "d": [{"input": [[5]], "output": DOT}]},
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A folder with an ARC data set for each of TESTS, and a run on the first."""
    folder = tmp_path_factory.mktemp("unanswered")
    (folder / "arc_train_challenges.json").write_text(json.dumps({"a": {"train": SHOWN, "test": SHOWN}}))
    for name, tests in TESTS.items():
        tasks = {task: {"train": SHOWN, "test": examples} for task, examples in tests.items()}
        (folder / f"arc_{name}_challenges.json").write_text(json.dumps(tasks))
        words = ["--input-file-prefix", f"{folder}/arc", "--subsets", "train", name, "--test-set-name", name]
        assert exit_code(build_arc, [*words, "--num-aug", "0", "--output-dir", str(folder / name)]) == 0
    words = [
        *TINY,
        "arch.mlp_t=false",
        f"dataset.data_path={folder}/none",
        f"checkpoint_path={folder}/runs",
        "max_steps=2",
    ]
    assert exit_code(pretrain.main, [*words, "eval_interval_steps=1", "wandb_mode=disabled"]) == 0
    return folder


def test_what_stands_in_is_told_from_answers(sets):
    unknown = {"none": [True, True], "some": [True, False, False], "known": [False, False]}
    for name, expected in unknown.items():
        puzzles = Puzzles(sets / name, "test", CPU)
        assert puzzles.unanswered_E.tolist() == expected, "a black cell may be an answer"
        labels = puzzles.rows(np.arange(len(puzzles))).labels.numpy()
        assert (labels == UNANSWERED).all(1).tolist() == (labels == UNANSWERED).any(1).tolist() == expected
        assert not Puzzles(sets / name, "train", CPU).unanswered_E.any()


def test_training_chooses_no_checkpoint_by_it(sets, capsys):
    run = only_run(sets / "runs")
    assert not (run / "best.safetensors").exists() and (run / "last.safetensors").exists()
    exact = [line["eval/all/exact_accuracy"] for line in read_metrics(run / "metrics.jsonl") if "eval/best" in line]
    assert exact == [None, None]
    assert exit_code(pretrain.main, [f"resume={run}", "max_steps=3"]) == 0, "a run without a best one goes on"
    assert "step 3: no answer to all 2 test puzzles is known" in capsys.readouterr().err


def measured(sets, name: str, capsys, *words: str) -> tuple[dict[str, float | None], str, str]:
    folder = sets / f"eval_{name}{len(words)}"
    common = [f"checkpoint='{only_run(sets / 'runs')}'", f"dataset_data_path={sets / name}", "halt_max_steps=2"]
    assert exit_code(evaluate.main, [*common, "per_puzzle=true", f"eval_dir={folder}", *words]) == 0
    printed = capsys.readouterr()
    [metrics] = metrics_of(folder).values()
    return metrics, printed.out, printed.err


@pytest.mark.parametrize("words", [[], ["different_init=3", "convergence_top_k=2"]])
def test_nothing_is_measured_where_no_answer_is_known(words, sets, capsys):
    metrics, table, notes = measured(sets, "none", capsys, *words)
    assert "2 of the 2 puzzles have no known answer: they are in no accuracy or loss\n" in notes
    compared = {
        name for name in metrics if any(word in name for word in ("accuracy", "acc_", "loss", "pass", "q_halt"))
    }
    assert len(compared) >= 9 and {metrics[name] for name in compared} == {None}
    assert metrics["all/residual"] > 0 and metrics["puzzles"] == 2
    assert "%" not in table.split("work:")[0]
    described = sets / "described.csv"
    described.write_text("source\nx\ny\n")
    assert exit_code(by_group.main, [str(sets / f"eval_none{len(words)}"), str(described), "--column", "source"]) == 0
    assert "%" not in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["streaming=true", "different_init=2", "halt_q=0.9", "convergence_top_k=1"]])
def test_known_answers_alone_count(words, sets, capsys):
    metrics, _, notes = measured(sets, "some", capsys, *words)
    assert "1 of the 3 puzzles have no known answer" in notes
    with open(sets / f"eval_some{len(words)}" / "per_puzzle.csv") as file:
        lines = list(csv.DictReader(file))
    assert [line["right"] == "" for line in lines] == [line["majority"] == "" for line in lines] == [True, False, False]
    right = sum(int(line["right"]) for line in lines[1:])
    assert metrics["all/exact_accuracy"] == right / sum(int(line["trajectories"]) for line in lines[1:])
    assert math.isfinite(metrics["all/lm_loss"]) and metrics["puzzles"] == 3


def test_known_answers_count_as_they_do_alone(sets, capsys):
    """The model's starts are drawn by a puzzle's number, so only a loss that does not depend on them is compared."""
    words = ["H_init_std=0", "L_init_std=0", "noise_scale=0"]
    some, known = (measured(sets, name, capsys, *words)[0] for name in ("some", "known"))
    for name in ("accuracy", "exact_accuracy", "lm_loss", "q_halt_loss", "total_loss"):
        assert some[f"all/{name}"] == pytest.approx(known[f"all/{name}"], rel=1e-5)


def test_a_report_shows_puzzles_with_answers(sets, tmp_path, capsys):
    """The page of a run says why it shows none."""
    assert exit_code(report.main, [str(only_run(sets / "runs")), "--puzzles", "2", "--output", str(tmp_path)]) == 0
    [page] = tmp_path.rglob("*.html")
    assert "no puzzle has a known answer, so there is nothing to compare with" in page.read_text()
    for name in ("none", "some"):
        measured(sets, name, capsys, "max_puzzles=2")
    evaluated = [str(sets / name) for name in ("eval_none1", "eval_some1")]
    for directories in (evaluated[:1], evaluated):
        assert exit_code(report.main, [*directories, "--puzzles", "2", "--output", str(tmp_path / "more")]) == 0
