"""The commands that users type: how every program ends, scripts/train.sh and scripts/eval.sh."""

import ast
import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, command, exit_code, only_run, results_of
from safetensors.torch import load_file

from config.command import command as command_end
from runtime.command import computing

MAZE9 = ROOT / "tests" / "golden" / "checkpoints" / "maze9"
CHECKPOINT = ROOT / "tests" / "golden" / "checkpoints" / "trm_maze9.pth"


PROGRAMS = [
    path
    for path in sorted({*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/**/*.py")})
    if path.relative_to(ROOT).parts[0] != "tests" and 'if __name__ == "__main__":' in path.read_text()
]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_program_ends_in_the_same_way(path):
    """But for scripts/launch.py, whose words and exit codes are torchrun's."""
    tree = ast.parse(path.read_text())
    mains = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    ends = [ast.unparse(main.decorator_list[0]).split("(")[0] for main in mains]
    assert ends in (["command"], ["computing"]) or path.name == "launch.py"


def ended(error: BaseException, end) -> int:
    def main(_: list[str]) -> None:
        raise error

    return exit_code(end(main), [])


@pytest.mark.parametrize("end, mistake", [(command_end(), 1), (command_end(mistake=2), 2), (computing("buy more"), 1)])
def test_how_a_program_ends(end, mistake, capsys):
    for error in (ValueError("no"), FileNotFoundError("no")):
        assert ended(error, end) == mistake and capsys.readouterr().err == "error: no\n"
    assert ended(MemoryError(), end) == mistake and capsys.readouterr().err.startswith("error: out of memory")
    assert ended(KeyboardInterrupt(), end) == 128 + signal.SIGINT and ended(SystemExit(7), end) == 7
    with pytest.raises(RuntimeError, match="a bug"):
        ended(RuntimeError("a bug"), end)
    assert exit_code(end(lambda words: len(words)), ["a", "b"]) == 2 and capsys.readouterr().err == ""


def test_advice_is_given_when_memory_is_too_small(capsys):
    assert ended(torch.cuda.OutOfMemoryError("..."), computing("buy more")) == 1
    assert capsys.readouterr().err == "error: out of GPU memory; buy more\n"


ENDLESS = """
from config.command import command
@command({})
def main():
    while True:
        print("more")
main()
"""


@pytest.mark.parametrize("how, code", [("", 128 + signal.SIGPIPE), ("unread=0", 0)])
def test_a_reader_may_go_away(how, code):
    words = f"{sys.executable} -c '{ENDLESS.format(how)}' | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stderr == "" and done.stdout.split() == ["more", str(code)]


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(streams, tiny, tmp_path):
    """As a daemon or a cron job may have them."""
    words = shlex.join([sys.executable, "pretrain.py", *tiny, "max_steps=1", "wandb_mode=disabled"])
    assert (
        subprocess.run(["bash", "-c", f"{words} {streams}"], capture_output=True, cwd=ROOT, timeout=60).returncode == 0
    )
    assert (only_run(tmp_path) / "final.json").is_file()


@pytest.mark.parametrize("error, code, said", [("KeyboardInterrupt", -signal.SIGINT, ""), ("KeyError", 1, "before\n")])
def test_ctrl_c_while_a_program_starts_prints_nothing(error, code, said):
    """Other errors go to whoever showed them before."""
    hook = "import sys; sys.excepthook = lambda *_: print('before')"
    words = [sys.executable, "-c", f"{hook}; import config; raise {error}"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (code, said, "")


@pytest.mark.parametrize("program", ["solve.py", "pretrain.py", "evaluate.py", "-m dataset.build_maze_dataset"])
def test_what_python_lacks_is_named(program):
    """As if the virtual environment were not active."""
    words = [sys.executable, "-E", "-S", *program.split()]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60)
    sentence = r"error: \S+ has no \w+: bash scripts/install.sh makes .venv/bin/python with it\n"
    assert done.returncode == 1 and re.fullmatch(sentence, done.stderr), done.stderr


@pytest.mark.parametrize("builder", ["arc", "maze", "maze_unique", "sudoku"])
def test_builders_run_as_programs(builder):
    done = command("-m", f"dataset.build_{builder}_dataset", "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: ") and "--seed" in done.stdout, done.stderr


def script(name: str, *words: str, venv: str | Path = sys.prefix, cwd: Path = ROOT, **environment: str):
    """Runs a script in an environment whose interpreter is that of the virtual environment `venv`."""
    inherited = {key: value for key, value in os.environ.items() if key != "NPROC_PER_NODE"}
    quiet = {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "VIRTUAL_ENV": str(venv)}
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / name), *words],
        capture_output=True,
        text=True,
        env=inherited | quiet | environment,
        cwd=cwd,
        timeout=120,
    )


@pytest.mark.parametrize("experiment", ["quickstart", "train/quickstart", "config/train/quickstart.yaml"])
def test_an_experiment_may_be_written_in_three_ways(echo, experiment, tmp_path):
    for cwd in (ROOT, tmp_path):
        run = script("train.sh", experiment, "lr=1e-3", "run_name=a b", venv=echo, cwd=cwd)
        assert run.stdout.splitlines() == [str(ROOT / "pretrain.py"), "train=quickstart", "lr=1e-3", "run_name=a b"]


def fake_python(file: Path, body: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)


@pytest.mark.parametrize("kind", ["venv", "conda"])
def test_an_environment_without_the_packages_is_passed_over(kind, tmp_path):
    """One of something else is active, or one that is gone. Where there is no .venv either, a sentence says so."""
    copy, active = tmp_path / "repository", tmp_path / "active"
    shutil.copytree(ROOT / "scripts", copy / "scripts")
    named = {"VIRTUAL_ENV": str(active)} if kind == "venv" else {"CONDA_PREFIX": str(active), "CONDA_DEFAULT_ENV": "x"}

    def train() -> subprocess.CompletedProcess[str]:
        words = ["bash", str(copy / "scripts" / "train.sh"), "quickstart"]
        return subprocess.run(words, capture_output=True, text=True, env=named | {"PATH": f"{tmp_path}/path:/bin"})

    fake_python(tmp_path / "path" / "python3", "exit 1")
    none = train()
    assert none.returncode == 1 and none.stdout == "" and none.stderr.count("\n") == 1
    assert none.stderr.startswith("error: no Python has the packages"), none.stderr
    own = copy / ".venv" / "bin" / "python"
    fake_python(own, 'echo "$@"')
    note = f"note: {active}/bin/python lacks packages that pyproject.toml lists; using {own}\n"
    assert (train().stdout, train().stderr) == (f"{copy}/pretrain.py train=quickstart\n", note), "it is gone"
    fake_python(active / "bin" / "python", "exit 1")
    assert (train().stdout, train().stderr) == (f"{copy}/pretrain.py train=quickstart\n", note), "it lacks packages"
    fake_python(active / "bin" / "python", 'echo active "$@"')
    assert (train().stdout, train().stderr) == (f"active {copy}/pretrain.py train=quickstart\n", "")


def test_words_may_stand_alone(echo):
    assert script("train.sh", "resume=some/run", venv=echo).stdout.splitlines()[1:] == ["resume=some/run"]
    named = ["--config-name", "train/eqr_sudoku"]  # as in EqR's README
    assert script("train.sh", *named, venv=echo).stdout.splitlines()[1:] == named
    assert script("train.sh", venv=echo).stdout.splitlines() == [str(ROOT / "pretrain.py")]
    assert script("eval.sh", "checkpoint=a.pth", venv=echo).stdout.splitlines()[1:] == ["checkpoint=a.pth"]


def test_several_processes_are_launched_by_torchrun(echo):
    launcher = [str(ROOT / "scripts/launch.py"), "--standalone", "--nproc_per_node=3"]
    for name, program in (("train.sh", "pretrain.py"), ("eval.sh", "evaluate.py")):
        run = script(name, "a=b", venv=echo, NPROC_PER_NODE="3")
        check = [str(ROOT / program), "--check-only", "a=b"]  # first in one process: an error is said once
        assert run.stdout.splitlines() == [*check, *launcher, str(ROOT / program), "a=b"]
        run = script(name, "a=b", venv=echo, NPROC_PER_NODE="1")
        assert run.stdout.splitlines() == [str(ROOT / program), "a=b"]


def test_several_hosts_meet_at_the_first(echo):
    hosts = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "first"}
    meeting = ["--nnodes=2", "--rdzv-backend=c10d", "--rdzv-endpoint=first:29500", "--rdzv-id=eqr"]
    for name, program in (("train.sh", "pretrain.py"), ("eval.sh", "evaluate.py")):
        lines = script(name, "a=b", venv=echo, **hosts).stdout.splitlines()
        assert lines[3:] == [
            str(ROOT / "scripts/launch.py"),
            *meeting,
            "--nproc_per_node=1",
            str(ROOT / program),
            "a=b",
        ]
    lines = script("train.sh", "a=b", venv=echo, NPROC_PER_NODE="4", MASTER_PORT="7", MAX_RESTARTS="3", **hosts).stdout
    assert "--rdzv-endpoint=first:7" in lines and "--nproc_per_node=4" in lines and "--max-restarts=3" in lines


@pytest.mark.parametrize(
    "variables, part",
    [
        ("NNODES=2", "NODE_RANK is not set"),
        ("NNODES=2 NODE_RANK=0", "MASTER_ADDR is not set"),
        ("NNODES=2 NODE_RANK=2 MASTER_ADDR=x", "NODE_RANK=2 should be below NNODES=2"),
        ("NNODES=2 NODE_RANK=-1 MASTER_ADDR=x", "NODE_RANK should be a whole number from 0 on"),
        ("NNODES=1:2 NODE_RANK=0 MASTER_ADDR=x", "NNODES should be a whole number from 1 on"),
        ("NNODES=1 NODE_RANK=1", "NODE_RANK=1 should be below NNODES=1"),
        ("NODE_RANK=0", "NNODES is not"),
        ("MASTER_ADDR=x", "NNODES is not"),
        ("MASTER_PORT=1", "NNODES is not"),
        ("NPROC_PER_NODE=2 RANK=0 WORLD_SIZE=4", "NNODES is not"),
        (
            "NNODES=2 NODE_RANK=0 MASTER_ADDR=x MASTER_PORT=70000",
            "MASTER_PORT should be a whole number from 1 to 65535",
        ),
        ("MAX_RESTARTS=-1", "MAX_RESTARTS should be a whole number from 0 on"),
        ("NPROC_PER_NODE=2 JOIN_SECONDS=soon", "JOIN_SECONDS should be a whole number from 1 on"),
    ],
)
def test_variables_of_several_hosts_that_do_not_go_together_are_one_sentence(echo, variables, part):
    """Never a training of its own on every host."""
    run = script("train.sh", "a=b", venv=echo, **dict(word.split("=", 1) for word in variables.split()))
    [line] = run.stderr.splitlines()
    assert run.returncode == 1 and run.stdout == "" and line.startswith("error: ") and part in line


def test_one_host_of_one_and_processes_that_others_start_need_no_torchrun(echo):
    for variables in ({"NNODES": "1", "NODE_RANK": "0", "MASTER_ADDR": "x"}, {"WORLD_SIZE": "2", "MASTER_ADDR": "x"}):
        assert script("train.sh", "a=b", venv=echo, **variables).stdout.splitlines() == [
            str(ROOT / "pretrain.py"),
            "a=b",
        ]


@pytest.mark.parametrize("number", ["abc", "0", "-1", "2.5", "1 2"])
@pytest.mark.parametrize("name", ["train.sh", "eval.sh"])
def test_a_wrong_number_of_processes_is_one_sentence(echo, name, number):
    run = script(name, "quickstart", venv=echo, NPROC_PER_NODE=number)
    assert run.returncode == 1 and run.stdout == ""
    [line] = run.stderr.splitlines()
    assert line.startswith("error: NPROC_PER_NODE") and f"'{number}'" in line


def test_a_checkpoint_may_have_any_name(echo, tmp_path):
    """What looks like an override but is a file is a checkpoint; quotes keep Hydra from reading the name."""
    odd = tmp_path / "run=1, (best) [2].pth"
    odd.touch()
    run = script("eval.sh", str(odd), "halt_max_steps=[1,4]", venv=echo)
    assert run.stdout.splitlines()[1:] == [f"checkpoint='{odd}'", "halt_max_steps=[1,4]"]


def test_training_a_step_in_two_processes(tiny_data, tmp_path):
    overrides = [*TINY[1:], f"dataset.data_path={tiny_data}", f"checkpoint_path={tmp_path}", "max_steps=1"]
    run = script("train.sh", "config/train/quickstart.yaml", *overrides, NPROC_PER_NODE="2")
    assert run.returncode == 0, run.stderr
    directory = only_run(tmp_path)
    assert directory.parent.name == "quickstart" and f"done: {directory}" in run.stdout
    assert "(4 a process)" in run.stderr
    names = {path.name for path in directory.iterdir()}
    assert names >= {
        "config.yaml",
        "versions.json",
        "metrics.jsonl",
        "last.safetensors",
        "best.safetensors",
        "final.json",
    }
    assert not [name for name in names if "unfinished" in name]
    final = json.loads((directory / "final.json").read_text())
    assert final["step"] == 1 and final["puzzles"] == 11
    assert load_file(directory / "last.safetensors")["slots/inputs"].shape == (8, 8)


def test_evaluating_a_released_checkpoint(tmp_path):
    copy = tmp_path / "trm=1, (a).pth"
    shutil.copy(CHECKPOINT, copy)
    words = [f"dataset_data_path={MAZE9}", "halt_max_steps=[1,2]", "global_batch_size=16", "max_eval_steps=1", "seed=3"]
    run = script("eval.sh", str(copy), *words)
    assert run.returncode == 0, run.stderr
    [directory] = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert str(directory) in run.stdout

    results = results_of(directory)
    settings = results["settings"]
    assert settings["halt_max_steps"] == [1, 2] and settings["seed"] == 3 and settings["convergence_window"] == 3
    assert results["arch"]["name"] == "trm" and results["step"] == 700 and results["weights"] == "averaged (EMA)"
    assert results["dataset"] == str(MAZE9) and results["checkpoint"] == str(copy)
    assert {"torch", "commit"} <= results["versions"].keys()
    assert [results["metrics"][depth]["all/steps"] for depth in ("1", "2")] == [1, 2]
    assert results["metrics"]["1"]["puzzles"] == 16

    with open(directory / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["depth"] for row in rows] == ["1", "2"]
    for row, depth in zip(rows, ("1", "2"), strict=True):
        for name, value in results["metrics"][depth].items():
            assert (float(row[name]) if row[name] else None) == value, name
        for name in settings.keys() - {"halt_max_steps"}:
            assert row[f"settings/{name}"] == ("" if settings[name] is None else str(settings[name])), name
        for name, value in results["arch"].items():
            assert row[f"arch/{name}"] == ("" if value is None else str(value)), name

    lines = run.stdout.splitlines()
    assert lines[0] == "16 puzzles, breadth 1"
    assert lines[1].split()[:2] == ["depth", "exact"] and [line.split()[0] for line in lines[2:4]] == ["1", "2"]
    accuracy = results["metrics"]["2"]["all/accuracy"]
    assert f"{100 * accuracy:.2f}%" in lines[3]


def test_a_missing_checkpoint_is_one_sentence(tmp_path):
    run = command("evaluate.py", f"checkpoint='{tmp_path / 'none' / 'last.pth'}'", f"eval_dir={tmp_path / 'results'}")
    assert run.returncode == 1 and run.stdout == ""
    [line] = run.stderr.splitlines()
    assert line.startswith("error: there is no checkpoint") and str(tmp_path / "none" / "last.pth") in line
    assert list(tmp_path.iterdir()) == []
