"""Large evaluations survive: a killed one goes on and shards make a whole, with the same numbers."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import ClassVar
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from conftest import ROOT, command, exit_code, metrics_of, results_of

import evaluate as program
from evaluation import engine
from evaluation import merge as merging
from evaluation import units as evaluation
from evaluation.metrics import Tally
from evaluation.observations import Findings
from evaluation.observers import OBSERVERS
from evaluation.partial import Partial, _append, _read
from evaluation.results import read_results
from models.backend import Backend
from runtime import released

GOLDEN = ROOT / "tests" / "golden" / "checkpoints"
WORDS = [
    f"checkpoint={GOLDEN / 'eqr_maze9.pth'}",
    f"dataset_data_path={GOLDEN / 'maze9'}",
    "noise_scale=0.05",
    "H_init_std=1",
    "L_init_std=1",
    "max_puzzles=14",
    "different_init=3",
    "convergence_top_k=2",
    "global_batch_size=6",
    "device=cpu",
]
KINDS = {
    "plain": ["halt_max_steps=[1,2]"],
    "streaming": ["halt_max_steps=8", "streaming=true", "halt_residual=1", "halt_patience=1", "agree=2"],
}


pytestmark = pytest.mark.usefixtures("small_streaming_units")


def run(directory: Path, kind: str, *words: str) -> int:
    return exit_code(program.main, [*WORDS, *KINDS[kind], f"eval_dir={directory}", *words])


@pytest.fixture(scope="module")
def whole(small_streaming_units, tmp_path_factory) -> dict[str, dict]:
    """The metrics of uninterrupted runs."""
    directory = tmp_path_factory.mktemp("whole")
    for kind in KINDS:
        assert run(directory / kind, kind) == 0
        assert [path.name for path in sorted((directory / kind).iterdir())] == ["results.csv", "results.json"]
    return {kind: metrics_of(directory / kind) for kind in KINDS}


class Killed(Exception):
    pass


def stop_after(monkeypatch, units: int) -> None:
    def some(*arguments):
        for number, part in enumerate(evaluation.run_units(*arguments), start=1):
            yield part
            if number == units:
                raise Killed

    monkeypatch.setattr(program, "run_units", some)


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_evaluation_goes_on_to_the_same_numbers(kind, tmp_path, monkeypatch, whole, capsys):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Killed):
            run(tmp_path, kind)
    assert len(Partial(tmp_path).parts()) == 2 and not (tmp_path / "results.json").exists()
    [file] = (tmp_path / "partial").glob("units*")
    cut_short = file.read_text().rstrip("\n")
    file.write_text(cut_short[:-20])  # the kill came while the second unit was written
    capsys.readouterr()
    assert run(tmp_path, kind) == 0
    assert "1 of " in capsys.readouterr().err
    assert metrics_of(tmp_path) == whole[kind]
    assert not (tmp_path / "partial").exists()


KILLED = """
import os, signal, sys
import evaluate
from evaluation import partial

append = partial._append

def append_and_die(*words):
    append(*words)
    os.kill(os.getpid(), signal.SIGKILL)

partial._append = append_and_die
evaluate.main(sys.argv[1:])
"""


def test_a_process_that_is_killed_goes_on(tmp_path, whole):
    """With SIGKILL, as a cluster does, once a unit is on disk."""
    (tmp_path / "program.py").write_text(KILLED)
    results = tmp_path / "results"
    killed = command(tmp_path / "program.py", *WORDS, *KINDS["plain"], f"eval_dir={results}")
    assert killed.returncode == 128 + 9 and len(Partial(results).parts()) == 1
    assert run(results, "plain") == 0
    assert metrics_of(results) == whole["plain"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [True, False])
def test_shards_make_the_whole(kind, shared, tmp_path, whole, monkeypatch, capsys):
    folders = [tmp_path / ("all" if shared else str(i)) for i in (1, 2, 3)]
    for i, folder in enumerate(folders, start=1):
        assert run(folder, kind, f"shard={i}/3") == 0
        if i == 2:
            with pytest.raises(ValueError, match="units of work are missing"):
                merging.merge(folders[:2], tmp_path / "merged")
    assert "python -m evaluation.merge" in capsys.readouterr().out
    merging.main([*map(str, dict.fromkeys(folders)), "--output", str(tmp_path / "merged")])
    assert metrics_of(tmp_path / "merged") == whole[kind]
    assert read_results(tmp_path / "merged")["settings"]["shard"] is None, "it is the whole"


SMALL_UNITS = """
import sys
import evaluate
from evaluation import units

units.FILLS = 4
evaluate.main(sys.argv[1:])
"""


def test_two_processes_stream_what_one_does(tmp_path):
    """To the bit, with noise, in 5 units of 4 sets of rows each."""
    (tmp_path / "program.py").write_text(SMALL_UNITS)
    reports = []
    words = [word for word in WORDS if not word.startswith(("max_puzzles", "global_batch"))]
    words += ["max_puzzles=18", "global_batch_size=3", *KINDS["streaming"]]
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        found = command(tmp_path / "program.py", *words, f"eval_dir={folder}", processes=processes)
        assert found.returncode == 0, found.stderr
        reports.append(metrics_of(folder))
    assert reports[0] == reports[1] and reports[0]["8"]["puzzles"] == 18


@pytest.mark.parametrize(
    "words, part",
    [
        (["seed=1"], "seed is 0 there and 1 here"),
        (["noise_scale=0.1"], "noise_scale"),
        (["global_batch_size=9"], "global_batch_size is 6 there and 9 here"),
        (["max_puzzles=12"], "max_puzzles is 14 there and 12 here"),
        (["ema=false"], "ema"),
        (["checkpoint=OTHER"], "another checkpoint"),
    ],
)
def test_other_settings_are_not_mixed_in(words, part, tmp_path, capsys):
    if words == ["checkpoint=OTHER"]:  # the same model in a file of other bytes
        words = [f"checkpoint={tmp_path / 'other.pth'}"]
        with ZipFile(GOLDEN / "eqr_maze9.pth") as old, ZipFile(tmp_path / "other.pth", "w") as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
    assert run(tmp_path, "plain", "shard=1/2") == 0
    capsys.readouterr()
    assert run(tmp_path, "plain", "shard=2/2", *words) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path} holds parts of a different evaluation") and part in line


def test_a_checkpoint_that_changes_while_it_is_read_is_refused(tmp_path, capsys, monkeypatch):
    """A run that still trains changes its checkpoint."""
    file = tmp_path / "eqr.pth"
    file.write_bytes((GOLDEN / "eqr_maze9.pth").read_bytes())
    load = released.load

    def load_and_change(path):
        found = load(path)
        path.write_bytes(bytes(reversed(path.read_bytes())))  # as long as before
        return found

    monkeypatch.setattr(released, "load", load_and_change)
    assert run(tmp_path / "here", "plain", f"checkpoint={file}") == 1
    assert capsys.readouterr().err.startswith(f"error: {file} changed while it was read")
    assert not (tmp_path / "here").exists()


def test_two_evaluations_in_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    file = tmp_path / "eqr.pth"
    file.write_bytes((GOLDEN / "eqr_maze9.pth").read_bytes())
    monkeypatch.setattr("time.strftime", lambda _: "now")
    for seed in (1, 2):
        assert exit_code(program.main, [*WORDS, f"checkpoint={file}", "halt_max_steps=1", f"seed={seed}"]) == 0
    for name, seed in (("eval_eqr_now", 1), ("eval_eqr_now-2", 2)):
        assert results_of(tmp_path / name)["settings"]["seed"] == seed


class Answers:
    """An observer that counts trajectories, by depth."""

    columns: ClassVar = {"counted": "counts/share"}

    def __init__(self, data, puzzles):
        self.counts = Counter()

    @staticmethod
    def applies(config, data, puzzles):
        return config.seed == 5 and data == GOLDEN / "maze9" and len(puzzles) == 100

    def observe(self, depth, examples_R, observation):
        self.counts[depth] += len(examples_R)

    def take(self):
        taken, self.counts = list(self.counts.items()), Counter()
        return taken

    @staticmethod
    def finish(taken, data):
        total = sum(map(Counter, map(dict, taken)), Counter())
        return Findings(
            {depth: {"counts/share": total[depth] / 100} for depth in total}, {"counts.txt": str(len(taken))}
        )


def test_an_observer_is_one_class_and_one_line(tmp_path, monkeypatch, capsys, whole):
    """It adds a metric, a column and a file, also for merged shards."""
    monkeypatch.setitem(OBSERVERS, "counts", Answers)
    for i in (1, 2):
        assert run(tmp_path, "plain", "seed=5", f"shard={i}/2") == 0
    merging.merge([tmp_path], tmp_path)
    assert "  counted  token acc." in capsys.readouterr().out
    assert [found["counts/share"] for found in metrics_of(tmp_path).values()] == [0.42, 0.42]
    assert (tmp_path / "counts.txt").read_text() == "7"
    assert run(tmp_path / "without", "plain") == 0
    assert metrics_of(tmp_path / "without") == whole["plain"] and not (tmp_path / "without" / "counts.txt").exists()


def test_parts_with_the_keys_of_an_earlier_version_go_on(tmp_path, whole):
    assert run(tmp_path, "plain", "shard=1/2") == 0
    file = tmp_path / "partial" / "about.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"arc": False, "maze": True}))
    assert run(tmp_path, "plain", "shard=2/2") == 0
    merging.merge([tmp_path], tmp_path)
    assert metrics_of(tmp_path) == whole["plain"]


def test_merging_nothing_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="holds no parts of an evaluation"):
        merging.merge([tmp_path], tmp_path)


@pytest.mark.parametrize("where", ["GPU memory", "memory"])
def test_too_little_memory_is_one_sentence(where, tmp_path, monkeypatch, capsys):
    def full(*_):
        if where == "memory":
            torch.empty(2**60)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine, "trajectory", full)
    assert run(tmp_path, "plain") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: out of {where}; ") and "global_batch_size" in last


def test_other_errors_are_not_about_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "trajectory", lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        run(tmp_path, "plain")


@pytest.mark.parametrize("kind", KINDS)
def test_logits_that_are_not_finite_are_no_wrong_answers(kind, tmp_path, capsys):
    assert run(tmp_path / "new", kind, "noise_scale=1e38") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: at depth ") and "logits are not finite: give less noise" in last
    assert not (tmp_path / "new").exists()


def test_a_refusal_takes_nothing_away_that_others_made(tmp_path, capsys):
    mine, shared = tmp_path / "mine", tmp_path / "shared"
    mine.mkdir()
    assert run(mine, "plain", "noise_scale=1e38") == 1 and list(mine.iterdir()) == []
    assert run(shared, "plain", "shard=1/2", "noise_scale=1e38") == 1 and not shared.exists()
    assert run(shared, "plain", "shard=1/2") == 0
    before = {file: file.read_bytes() for file in (shared / "partial").iterdir()}

    def refuse(_):
        raise ValueError("refused")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation.Part, "check", refuse)
        assert run(shared, "plain", "shard=2/2") == 1 and run(shared, "plain") == 1
    assert capsys.readouterr().err.count("error: refused") == 2
    assert before.items() <= {file: file.read_bytes() for file in (shared / "partial").iterdir()}.items()


SLOW_MAIN = """
import sys
import time
import evaluate
from evaluation.partial import Partial

own_file = Partial._own_file

def slow(self, world):
    time.sleep(3 * world.is_main)
    return own_file(self, world)

Partial._own_file = slow
evaluate.main(sys.argv[1:])
"""


@pytest.mark.parametrize("slow", [False, True])
def test_two_processes_are_refused_in_one_sentence_each(slow, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(SLOW_MAIN)
    words = [*WORDS, *KINDS["plain"], f"eval_dir={tmp_path / 'new'}", "noise_scale=1e38"]
    done = command(program if slow else "evaluate.py", *words, processes=2)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and errors and all("logits are not finite" in line for line in errors)
    assert not (tmp_path / "new" / "partial").exists()


def test_a_unit_is_the_same_after_reading(tmp_path):
    tally = Tally({"a": (0.1 + 0.2, 3), "b": (float("inf"), 1.0)}, {"steps": {4: 2, 16: 1}})
    part = evaluation.Part(7, {2: tally, 4: tally}, 1.5, 0.25, {"2": "text"})
    with open(tmp_path / "units.jsonl", "w") as file:
        _append(file, part)
    assert list(_read(tmp_path / "units.jsonl")) == [part]


def test_large_evaluations_have_a_bounded_number_of_units():
    from evaluation.halting import Halting
    from evaluation.settings import Settings
    from evaluation.units import UNITS, Plan

    for halting in (None, Halting()):
        for puzzles, breadth in ((10, 1), (1000, 8), (422_786, 1), (422_786, 128), (422_786, 5000), (3, 5000)):
            plan = Plan.of(Settings([16], breadth=breadth, halting=halting), puzzles, None)
            assert len(plan.units) <= 2 * UNITS
            covered = [plan.examples(unit) for unit in plan.units]
            assert sum(map(len, covered)) == puzzles and all(len(part) for part in covered)


@pytest.mark.parametrize("words", [[], ["shard=1/2"]])
def test_two_jobs_do_not_do_the_same_work(words, tmp_path, monkeypatch, capsys):
    """The second is refused while the first is at work, but not afterwards. Other shards may join."""
    refused = []

    def meanwhile(*arguments):
        refused.append(run(tmp_path, "plain", *words))
        if words:
            monkeypatch.setattr(program, "run_units", evaluation.run_units)
            assert run(tmp_path, "plain", "shard=2/2") == 0
        return evaluation.run_units(*arguments)

    monkeypatch.setattr(program, "run_units", meanwhile)
    assert run(tmp_path, "plain", *words) == 0 and refused == [1]
    assert "error: another job is at work on " in capsys.readouterr().err
    monkeypatch.setattr(program, "run_units", evaluation.run_units)
    assert run(tmp_path, "plain", *words) == 0


@pytest.mark.parametrize("text", ["", '{"same": ', "[1]", "{}", "\xff"])
def test_damaged_parts_are_one_sentence(text, tmp_path, capsys):
    file = tmp_path / "partial" / "about.json"
    file.parent.mkdir()
    file.write_bytes(text.encode("latin1"))
    assert run(tmp_path, "plain") == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {file} is damaged: remove ")
    with pytest.raises(ValueError, match="is damaged"):
        merging.merge([tmp_path], tmp_path)


@pytest.mark.parametrize("damage", [b"\xff\xfe\n", b"\0" * 5000, b'123\n[]\n{"unit": 1, "tallies": []}\n'])
def test_damaged_units_are_done_again(damage, tmp_path, whole):
    assert run(tmp_path, "plain", "shard=1/2") == 0
    [file] = (tmp_path / "partial").glob("units*")
    file.write_bytes(file.read_bytes() + damage)
    assert run(tmp_path, "plain") == 0
    assert metrics_of(tmp_path) == whole["plain"]


def test_other_puzzles_of_the_same_shape_are_another_dataset(tmp_path, capsys):
    other = shutil.copytree(GOLDEN / "maze9", tmp_path / "maze9")
    for name in ("all__inputs.npy", "all__labels.npy"):
        np.save(other / "test" / name, np.load(other / "test" / name)[::-1])
    assert run(tmp_path / "results", "plain", "shard=1/2") == 0
    assert run(tmp_path / "results", "plain", "shard=2/2", f"dataset_data_path={other}") == 1
    assert "another dataset" in capsys.readouterr().err
    assert run(tmp_path / "results", "plain", "shard=2/2", f"dataset_data_path={GOLDEN}/../checkpoints/maze9") == 0


def test_parts_of_kernels_and_of_plain_code_are_not_mixed(tmp_path, monkeypatch, capsys):
    assert run(tmp_path, "plain", "shard=1/2") == 0
    describe = program.describe
    monkeypatch.setattr(program, "describe", lambda *a: describe(*a[:4], Backend(kernels=True), *a[5:]))
    assert run(tmp_path, "plain", "shard=2/2") == 1
    assert "(backend is 'plain PyTorch' there and 'Triton kernels' here)" in capsys.readouterr().err


def test_older_parts_go_on(tmp_path, whole):
    """They name their backend in a sentence, and do not know the newest keys of a model."""
    assert run(tmp_path, "plain", "shard=1/2") == 0
    file = tmp_path / "partial" / "about.json"
    about = json.loads(file.read_text())
    about["same"]["backend"] += ", no kernels: kernels=off"
    del about["same"]["arch"]["puzzle_emb_len"]
    file.write_text(json.dumps(about))
    assert run(tmp_path, "plain") == 0
    assert metrics_of(tmp_path) == whole["plain"]
