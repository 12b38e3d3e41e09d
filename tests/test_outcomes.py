"""per_puzzle.csv adds up to the metrics, however the work was cut, and gives tables by group."""

import csv
import io
import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY, command, exit_code, metrics_of, only_run, results_of, tiny_split

import evaluate as program
from dataset.layout import write_dataset
from evaluation import by_group
from evaluation import merge as merging
from evaluation.observers.per_puzzle import COLUMNS, read_per_puzzle
from evaluation.partial import Partial
from evaluation.units import run_units

PUZZLES = 23
WIDE = ["different_init=5", "convergence_top_k=2"]
RANDOM = ["noise_scale=0.5", "H_init_std=1", "L_init_std=1"]
ALIKE = ["noise_scale=0", "H_init_std=0.05", "L_init_std=0.05"]
PLAIN = ["halt_max_steps=[1,2,4]", *RANDOM]
STREAMING = ["halt_max_steps=8", "streaming=true", "halt_residual=2.5", "halt_patience=1"]
KINDS = {
    "plain": [*PLAIN, *WIDE],
    "breadth 1": PLAIN,
    "streaming": [*STREAMING, *RANDOM, *WIDE],
    "streaming, breadth 1": [*STREAMING, *RANDOM],
    "agree": [*STREAMING, *ALIKE, *WIDE, "agree=2"],
}


pytestmark = pytest.mark.usefixtures("small_streaming_units")


@pytest.fixture(scope="module")
def words(tiny_data, tmp_path_factory) -> list[str]:
    """Words that evaluate a model that knows little on puzzles with one scored token: it is right on some."""
    directory = tmp_path_factory.mktemp("outcomes")
    found = command(
        "pretrain.py", *TINY, f"dataset.data_path={tiny_data}", f"checkpoint_path={directory}", "max_steps=2"
    )
    assert found.returncode == 0, found.stderr
    split = tiny_split(PUZZLES, 1, identifiers=3)
    labels = np.where(np.arange(8) == np.arange(PUZZLES)[:, None] % 8, split.labels, 0).astype(np.uint8)
    write_dataset(directory / "data", {"test": replace(split, labels=labels)}, ["<blank>", "a", "b"])
    fixed = [f"checkpoint={only_run(directory)}", f"dataset_data_path={directory / 'data'}", "device=cpu"]
    return [*fixed, "global_batch_size=20", "per_puzzle=true"]


@pytest.fixture(scope="module")
def whole(words, small_streaming_units, tmp_path_factory) -> dict[str, Path]:
    """The folders of uninterrupted evaluations."""
    folders = {kind: tmp_path_factory.mktemp("whole") for kind in KINDS}
    for kind, folder in folders.items():
        assert exit_code(program.main, [*words, *KINDS[kind], f"eval_dir={folder}"]) == 0
    return folders


def text(folder: Path) -> str:
    return (folder / "per_puzzle.csv").read_text()


# -- per_puzzle.csv -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_puzzles_add_up_to_the_metrics(kind, whole):
    folder = whole[kind]
    assert sorted(path.name for path in folder.iterdir()) == ["per_puzzle.csv", "results.csv", "results.json"]
    columns = read_per_puzzle(folder)
    some = 0
    for depth, found in metrics_of(folder).items():
        at = {name: column[columns["depth"] == int(depth)] for name, column in columns.items()}
        assert at["example"].tolist() == list(range(PUZZLES))
        assert (at["right"] <= at["trajectories"]).all()
        assert at["right"].sum() / at["trajectories"].sum() == found["all/exact_accuracy"]
        assert at["iterations"].sum() / at["trajectories"].sum() == pytest.approx(found["all/steps"], rel=1e-12)
        if kind != "agree":
            assert at["iterations"].mean() == pytest.approx(found["nfe/mean"], rel=1e-12)
        assert np.isnan(at["best_converged"]).all() == (depth == "1"), "one iteration has no score"
        if "breadth 1" in kind:
            assert (at["trajectories"] == 1).all() and (at["majority"] == at["right"]).all()
        else:
            assert at["majority"].mean() == found["majority_vote/exact_accuracy"]
            if depth != "1":
                assert at["best_converged"].mean() == found["selection/convergence/exact_accuracy"]
                assert at["best_converged"].mean() == found["convergence_top_k/cumulative_exact_acc_top1"]
        some += 0 < at["right"].sum() < at["trajectories"].sum()
    assert some, "there is something to add up"
    assert kind != "agree" or len(set(columns["trajectories"])) > 1


@pytest.mark.parametrize("kind", ["plain", "agree"])
def test_a_killed_evaluation_goes_on_to_the_same_puzzles(kind, words, whole, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    def one(*arguments):
        yield next(run_units(*arguments))
        raise Killed

    arguments = [*words, *KINDS[kind], f"eval_dir={tmp_path}"]
    with monkeypatch.context() as patch:
        patch.setattr(program, "run_units", one)
        with pytest.raises(Killed):
            program.main(arguments)
    assert len(Partial(tmp_path).parts()) == 1 and not (tmp_path / "per_puzzle.csv").exists()
    assert exit_code(program.main, arguments) == 0
    assert text(tmp_path) == text(whole[kind])


@pytest.mark.parametrize("kind", ["plain", "agree"])
def test_shards_make_the_whole(kind, words, whole, tmp_path):
    folders = [tmp_path / str(i) for i in (1, 2)]
    for i, folder in enumerate(folders, start=1):
        assert exit_code(program.main, [*words, *KINDS[kind], f"eval_dir={folder}", f"shard={i}/2"]) == 0
        assert not (folder / "per_puzzle.csv").exists()
    merging.merge(folders, tmp_path / "merged")
    assert text(tmp_path / "merged") == text(whole[kind]) and metrics_of(tmp_path / "merged") == metrics_of(whole[kind])


def test_it_changes_no_number_and_is_not_there_unless_asked_for(words, whole, tmp_path):
    assert exit_code(program.main, [*words, *KINDS["plain"], f"eval_dir={tmp_path}", "per_puzzle=false"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "results.json"]
    assert metrics_of(tmp_path) == metrics_of(whole["plain"])
    assert "examples" not in results_of(tmp_path)


def test_results_of_another_evaluation_are_not_overwritten(words, whole, tmp_path, capsys):
    """Nor are they made again: the same command shows the same table."""
    (tmp_path / "notes.txt").write_text("mine")
    again = [*words, "halt_max_steps=2", f"eval_dir={tmp_path}"]
    assert exit_code(program.main, again) == 0
    shown, files = capsys.readouterr().out, {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert exit_code(program.main, again) == 0
    table, complete = capsys.readouterr().out.rsplit("the evaluation is complete", 1)
    assert shown.startswith(table) and complete.endswith(f"{tmp_path}\n")
    refused = f"error: {tmp_path} holds the results of a different evaluation"
    for other, why in (("per_puzzle=false", "per_puzzle is True there"), ("seed=1", "seed is 0 there")):
        assert exit_code(program.main, [*again, other]) == 1
        assert capsys.readouterr().err.startswith(f"{refused} ({why}")
    halves = [tmp_path.with_name(f"half{i}") for i in (1, 2)]
    for i, half in enumerate(halves, start=1):
        assert exit_code(program.main, [*again, "seed=1", f"eval_dir={half}", f"shard={i}/2"]) == 0
    assert exit_code(merging.main, [*map(str, halves), f"--output={tmp_path}"]) == 1
    assert refused in capsys.readouterr().err
    assert files == {path: path.read_bytes() for path in tmp_path.iterdir()}
    results = results_of(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps({name: results[name] for name in results if name != "same"}))
    assert exit_code(program.main, again) == 1
    assert f"{refused} (or one of an older program)" in capsys.readouterr().err


def test_with_another_observer(tmp_path):
    """Mazes also have the share of shortest paths; neither observer changes the other."""
    golden = ROOT / "tests" / "golden" / "checkpoints"
    arguments = [f"checkpoint={golden / 'trm_maze9.pth'}", f"dataset_data_path={golden / 'maze9'}", "device=cpu"]
    arguments += ["max_puzzles=13", "global_batch_size=5", "halt_max_steps=16"]
    for kind in ("true", "false"):
        assert exit_code(program.main, [*arguments, f"eval_dir={tmp_path / kind}", f"per_puzzle={kind}"]) == 0
    assert metrics_of(tmp_path / "true") == metrics_of(tmp_path / "false")
    assert "maze/shortest_path" in metrics_of(tmp_path / "true")["16"]
    assert read_per_puzzle(tmp_path / "true")["example"].tolist() == [i * 100 // 13 for i in range(13)]


# -- tables by group ------------------------------------------------------------------------------------------


SOURCES = ["web" if i % 3 else "book" for i in range(PUZZLES)]
RATINGS = [i * 4 - 4 for i in range(PUZZLES)]


@pytest.fixture
def described(tmp_path) -> Path:
    """A CSV that describes the puzzles."""
    with open(tmp_path / "test.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [("question", "rating", "source"), *zip("x" * PUZZLES, RATINGS, SOURCES, strict=True)]
        )
    return tmp_path / "test.csv"


@pytest.fixture
def evaluated(whole, tmp_path) -> Path:
    """An evaluation's folder that a test may change."""
    return shutil.copytree(whole["plain"], tmp_path / "evaluated")


def test_accuracy_by_group(evaluated, described, capsys, monkeypatch):
    by_group.main([str(evaluated), str(described), "--bins", "0,8,50"])
    printed = capsys.readouterr().out
    columns = read_per_puzzle(evaluated)
    bins = {
        "below 0": [i for i in range(PUZZLES) if RATINGS[i] < 0],
        "[0, 8)": [i for i in range(PUZZLES) if 0 <= RATINGS[i] < 8],
        "[8, 50)": [i for i in range(PUZZLES) if 8 <= RATINGS[i] < 50],
        "50 and more": [i for i in range(PUZZLES) if RATINGS[i] >= 50],
    }
    named = {name: [i for i in range(PUZZLES) if SOURCES[i] == name] for name in ("book", "web")}
    for column, members in (("rating", bins), ("source", named)):
        found = json.loads((evaluated / f"by_{column}.json").read_text())
        assert list(found) == ["1", "2", "4"]
        for depth, groups in found.items():
            assert f"depth {depth}, by {column}\n" in printed
            assert [group["group"] for group in groups] == [*members, "all"]
            for group, examples in zip(groups, [*members.values(), range(PUZZLES)], strict=True):
                here = (columns["depth"] == int(depth)) & np.isin(columns["example"], examples)
                assert group["puzzles"] == len(examples) == here.sum()
                shares = {name: columns[name][here].mean() for name in ("majority", "best_converged")}
                shares["exact_accuracy"] = columns["right"][here].sum() / columns["trajectories"][here].sum()
                for name, share in shares.items():
                    if name == "best_converged" and depth == "1":
                        assert name not in group
                        continue
                    error = math.sqrt(share * (1 - share) / len(examples))
                    assert group[name] == pytest.approx({"share": share, "error": error, "puzzles": len(examples)})
                    assert f"{100 * share:.2f}% ± {100 * error:.2f}%" in printed
            whole = metrics_of(evaluated)[depth]
            assert groups[-1]["exact_accuracy"]["share"] == whole["all/exact_accuracy"]
            assert groups[-1]["majority"]["share"] == whole["majority_vote/exact_accuracy"]


def test_a_terminal_without_the_letters_gets_the_table_too(evaluated, described, monkeypatch):
    """Where the encoding of the output has no ±."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert exit_code(by_group.main, [str(evaluated), str(described)]) == 0
    assert rb"% \xb1 " in written.getvalue()


def test_breadth_1_has_nothing_to_choose(whole, described, capsys):
    by_group.run(whole["breadth 1"], described, ["source"], "0")
    assert capsys.readouterr().out.splitlines()[1].split() == ["group", "puzzles", "exact"]


def test_a_part_of_the_split(words, described, tmp_path):
    """The CSV describes all puzzles, but only some were evaluated."""
    folder = tmp_path / "some"
    assert exit_code(program.main, [*words, "halt_max_steps=2", f"eval_dir={folder}", "max_puzzles=5"]) == 0
    by_group.run(folder, described, ["source"], "0")
    groups = json.loads((folder / "by_source.json").read_text())["2"]
    examples = [i * PUZZLES // 5 for i in range(5)]
    counts = [sum(SOURCES[i] == name for i in examples) for name in ("book", "web")]
    assert [group["puzzles"] for group in groups] == [*counts, 5]


def write_lines(file: Path, change) -> None:
    file.write_text("\n".join(change(file.read_text().splitlines())) + "\n")


@pytest.mark.parametrize(
    "file, change, more, part",
    [
        ("test.csv", lambda lines: lines[:-1], [], "has 22 rows, but the split that was evaluated has 23 puzzles"),
        ("test.csv", lambda lines: [*lines, lines[-1]], [], "has 24 rows"),
        ("test.csv", lambda lines: [*lines[:-1], "x,1"], [], "line 24: has 2 columns instead of 3"),
        ("test.csv", None, [], "test.csv: no such file"),
        ("test.csv", list, ["--column", "colour"], "has no column 'colour'"),
        ("test.csv", list, ["--bins", "0,2,1"], "--bins takes ascending numbers like 0,1,10, not '0,2,1'"),
        ("test.csv", list, ["--column", "a/b"], "may have no /"),
        ("test.csv", list, ["--bins", "a"], "--bins takes ascending numbers"),
        ("test.csv", list, ["--bins", ""], "--bins takes ascending numbers"),
        ("evaluated/per_puzzle.csv", None, [], "per_puzzle.csv: no such file"),
        ("evaluated/per_puzzle.csv", lambda lines: lines[:-1], [], "does not belong to the results.json"),
        ("evaluated/per_puzzle.csv", lambda lines: lines[:1], [], "does not belong to the results.json"),
        ("evaluated/per_puzzle.csv", lambda lines: [*lines[:-1], lines[-2]], [], "or is not whole"),
        (
            "evaluated/per_puzzle.csv",
            lambda lines: [*lines[:-1], "4,22,5,x,5,1,1"],
            [],
            "line 70: holds something else",
        ),
        ("evaluated/per_puzzle.csv", lambda lines: [*lines[:-1], "4,22,5,,5,1,1"], [], "line 70: holds something else"),
        ("evaluated/results.json", None, [], "results.json does not exist"),
        (
            "evaluated/results.json",
            lambda lines: [line for line in lines if '"examples"' not in line],
            [],
            "evaluate with per_puzzle=true",
        ),
    ],
)
def test_bad_input_is_one_sentence(file, change, more, part, evaluated, described, tmp_path, capsys, monkeypatch):
    if change is None:
        (tmp_path / file).unlink()
    else:
        write_lines(tmp_path / file, change)
    before = sorted(evaluated.iterdir())
    assert exit_code(by_group.main, [str(evaluated), str(described), *more]) == 1
    printed = capsys.readouterr()
    [line] = printed.err.splitlines()
    assert line.startswith("error: ") and part in line
    assert printed.out == "" and sorted(evaluated.iterdir()) == before


def test_the_header_is_what_is_documented(whole):
    assert text(whole["plain"]).splitlines()[0] == ",".join(COLUMNS)
