"""The page is self-contained, and has every picture and the evaluation's numbers."""

import json
import re
import shutil
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, command, exit_code, make_trainer, results_of, start

from dataset.layout import puzzle_split, write_dataset
from dataset.puzzles import Puzzles, evenly_spread
from dataset.sudoku import random_puzzle
from evaluation import report
from evaluation.drawing import curves, pictures
from evaluation.drawing.page import find, write_page
from evaluation.drawing.sample import Sample, config_of, take_sample
from evaluation.results import read_results

pytest.importorskip("matplotlib")
ALWAYS = {"accuracy_vs_depth", "residual_vs_iteration", "accuracy_vs_residual", "halting_steps"}
WITH_STARTS = ALWAYS | {"depth_breadth", "ways_to_the_attractor"}


def train(directory: Path, data: Path, *words: str, steps: int) -> None:
    """Makes the part of a run's folder that the page reads."""
    trainer = make_trainer([f"dataset.data_path={data}", *words])
    directory.mkdir(parents=True)
    with open(directory / "metrics.jsonl", "w") as file:
        for step in range(1, steps + 1):
            loss = trainer.train_step()["lm_loss"].item()
            file.write(json.dumps({"step": step, "train/lm_loss": loss, "train/steps": 2.0}) + "\n")
    trainer.save(directory / "last.safetensors", slots=False)


@pytest.fixture(scope="module")
def sudokus(tmp_path_factory) -> Path:
    """4x4 Sudokus with one scored cell each, so that a small model solves some of them."""
    rng = np.random.default_rng(0)
    pairs_E2S = np.array([random_puzzle(rng, 4) for _ in range(51)]) + 1
    inputs_ES, labels_ES = pairs_E2S[:, 0].astype(np.uint8), pairs_E2S[:, 1].astype(np.uint8)
    rank_ES = np.where(inputs_ES == 1, rng.random(inputs_ES.shape), 2).argsort(1).argsort(1)
    labels_ES[rank_ES >= 1] = 0
    splits = {"train": (inputs_ES[11:], labels_ES[11:]), "test": (inputs_ES[:11], labels_ES[:11])}
    directory = tmp_path_factory.mktemp("data") / "sudokus"
    write_dataset(directory, {name: puzzle_split(*both, vocab_size=6) for name, both in splits.items()}, ["<blank>"])
    return directory


@pytest.fixture(scope="module")
def run(sudokus, tmp_path_factory) -> Path:
    """A run that has learned a little, with an evaluation below it."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    train(directory, sudokus, *TINY, "lr=1e-2", "lr_warmup_steps=0", "ema_rate=0.9", steps=60)
    words = ["halt_max_steps=[1,2,5]", "different_init=4", "convergence_top_k=1", "global_batch_size=12"]
    done = command("evaluate.py", f"checkpoint='{directory}'", *words, f"eval_dir={directory}/evaluation")
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="module")
def sampled(run) -> Sample:
    found = find(run / "evaluation")
    return take_sample(config_of(found.checkpoint, found.results), 11)


def written(directory: Path) -> set[str]:
    return {file.stem for file in directory.glob("*.png")}


def check_page(directory: Path) -> str:
    """The page's text without its pictures. Checks that it holds the files beside it, and loads nothing else."""
    text = (directory / "index.html").read_text()
    inside = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert sorted(map(b64decode, inside)) == sorted(file.read_bytes() for file in directory.glob("*.png"))
    rest = re.sub(r'src="data:image/png;base64,[^"]+"', "", text)
    assert not re.search(r"https?:|src=|href=|url\(|@import|<script|<link", rest)
    assert rest.count("<img alt=") == len(inside) > 0
    return rest


def test_the_page_of_an_evaluation(run, tmp_path):
    page = write_page(run / "evaluation", tmp_path / "page", 4)
    assert page == tmp_path / "page" / "index.html"
    assert written(tmp_path / "page") == WITH_STARTS | {"boards", "evaluation", "training"}
    text = check_page(tmp_path / "page")
    assert "4 puzzles x 4 starts x 16 iterations" in text and str(run / "last.safetensors") in text
    assert "What is not here" not in text


def test_difficulty_may_be_a_rating(run, sudokus, sampled, tmp_path):
    found = find(run / "evaluation")
    examples = len(Puzzles(str(sudokus), "test", torch.device("cpu")))
    ratings = tmp_path / "test.csv"
    ratings.write_text("rating\n" + "".join(f"{2.5 * row}\n" for row in range(examples)))
    rated = take_sample(config_of(found.checkpoint, found.results), 4, ratings)
    assert rated.difficulty_N.tolist() == [2.5 * row for row in evenly_spread(examples, 4)]
    assert "rating: " in pictures.halting_steps(rated).axes[0].get_title()
    assert sampled.difficulty == "cells to fill in"
    ratings.write_text("rating\n" + "hard\n" * examples)
    with pytest.raises(ValueError, match="not all values in its column rating are numbers"):
        take_sample(config_of(found.checkpoint, found.results), 4, ratings)


def test_the_page_of_a_run_shows_the_evaluations_below_it(run, tmp_path):
    write_page(run, tmp_path, 3)
    assert written(tmp_path) == WITH_STARTS | {"boards", "evaluation", "training"}
    assert "3 puzzles x 8 starts x 16 iterations" in check_page(tmp_path)


def test_numbers_are_those_of_the_evaluation(run, sampled):
    """Noise and all: the same starts, the same batches, the same random draws."""
    metrics = read_results(run / "evaluation")["metrics"]
    assert 0.1 < metrics["5"]["all/exact_accuracy"] < 0.9 and sampled.depth == 16
    for depth, values in metrics.items():
        d = int(depth) - 1
        best = curves.accuracy(sampled, 4)[d]
        assert curves.accuracy(sampled, 1)[d] == pytest.approx(values["all/exact_accuracy"], abs=1e-12)
        assert best == pytest.approx(values["selection/convergence/exact_accuracy"], abs=1e-12)
        assert best == pytest.approx(values["convergence_top_k/cumulative_exact_acc_top1"], abs=1e-12)
        if d:
            assert sampled.residual_DNB[d].mean() == pytest.approx(values["all/residual"], rel=1e-6)
    assert np.isnan(sampled.residual_DNB[0]).all() and not np.isnan(sampled.residual_DNB[1:]).any()


def test_what_a_sample_says_of_right_is_what_its_answers_are(sampled):
    right_DNB = ((sampled.answers_DNBS == sampled.labels_NS[:, None]) | (sampled.labels_NS[:, None] < 0)).all(-1)
    np.testing.assert_array_equal(right_DNB, sampled.right_DNB)
    for paths in sampled.paths:
        assert paths.points_BT2.shape == (4, 17, 2) and 0 < paths.shares_2.sum() <= 1 + 1e-9


def test_a_model_without_random_starts_and_without_halting(tiny_data, tmp_path):
    words = ["train=feedforward_sudoku", *TINY[1:], "arch.L_layers=2", "arch.forward_dtype=float32"]
    train(tmp_path / "run", tiny_data, *words, steps=2)
    write_page(tmp_path / "run", tmp_path / "run" / "report", 3)
    assert written(tmp_path / "run" / "report") == ALWAYS - {"halting_steps"} | {"training"}
    text = check_page(tmp_path / "run" / "report")
    assert "these puzzles are neither Sudokus nor mazes" in text
    assert "this model has no random starts" in text and "no evaluation lies in this run" in text
    assert "this model has not learned to halt" in text


def test_what_cannot_be_drawn_is_left_out_and_said(run, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(run / "evaluation", moved)
    results = results_of(moved) | {"checkpoint": str(tmp_path / "gone.safetensors")}
    (moved / "results.json").write_text(json.dumps(results))
    write_page(moved, tmp_path / "page", 3)
    assert written(tmp_path / "page") == {"evaluation"}
    text = check_page(tmp_path / "page")
    assert "Everything about trajectories: there is no checkpoint" in text and "there is no metrics.jsonl" in text


def test_a_checkpoint_that_went_on_is_said(run, tmp_path):
    results = results_of(run / "evaluation") | {"step": 7}
    (tmp_path / "results.json").write_text(json.dumps(results))
    write_page(tmp_path, tmp_path / "page", 2)
    assert "another step than the evaluation (7)" in check_page(tmp_path / "page")


def test_mistakes_are_one_sentence(run, tmp_path, capsys):
    (tmp_path / "unfinished" / "partial").mkdir(parents=True)
    (tmp_path / "unfinished" / "partial" / "about.json").write_text("{}")
    (few := tmp_path / "few.csv").write_text("rating\n1\n")
    (other := tmp_path / "other.csv").write_text("difficulty\n1\n")
    for words, sentence in [
        ([tmp_path / "nowhere"], "is not a folder"),
        ([tmp_path], "neither a run's folder"),
        ([tmp_path / "unfinished"], "is not finished"),
        ([run, "--puzzles", 0], "--puzzles should be at least 1, not 0"),
        ([run, "--ratings", tmp_path / "no.csv"], "no.csv is not a file: give a CSV"),
        ([run, "--ratings", other, "--output", tmp_path / "page"], "other.csv, line 1: has no column 'rating'"),
        ([run, "--ratings", few, "--output", tmp_path / "page"], "few.csv has 1 rows, but the split"),
        ([run, run], "results.json does not exist"),
        ([run, run, "--ratings", few], "--ratings goes with one folder"),
    ]:
        assert exit_code(report.main, [str(word) for word in words]) == 1
        assert re.fullmatch(f"error: [^\n]*{sentence}[^\n]*\n", capsys.readouterr().err)
    assert {path.name for path in tmp_path.iterdir()} == {"unfinished", "few.csv", "other.csv"}


def test_the_command_ends_with_1(tmp_path):
    done = start("-m", "evaluation.report", str(tmp_path / "nowhere")).end()
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_several_evaluations_are_compared_in_a_picture(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    evaluation = str(run / "evaluation")
    report.main([evaluation, evaluation])
    assert (tmp_path / "accuracy_vs_depth.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == "wrote accuracy_vs_depth.png\n"
    (tmp_path / "folder").mkdir()
    for output, file in (("folder", "folder/accuracy_vs_depth.png"), ("both", "both.png")):
        report.main([evaluation, evaluation, "--output", output])
        assert capsys.readouterr().out == f"wrote {file}\n" and (tmp_path / file).is_file()


def test_a_picture_that_cannot_be_written_leaves_the_earlier_one(run, tmp_path, monkeypatch, capsys):
    def full(_, file, **__):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    (file := tmp_path / "both.png").write_bytes(b"earlier")
    assert exit_code(report.main, [*[str(run / "evaluation")] * 2, f"--output={file}"]) == 1
    assert capsys.readouterr().err == f"error: [Errno 28] No space left on device: '{file}'\n"
    assert file.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [file]
