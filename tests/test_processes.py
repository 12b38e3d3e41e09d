"""Several processes: how they stop, and what is said when one of them cannot go on."""

import json
import signal
from pathlib import Path

import pytest
from conftest import command, only_run, torchrun

from config.load import load_pretrain, to_yaml
from runtime import checkpoint
from runtime.run_log import read_metrics
from training.log import MetricsLog


@pytest.fixture
def program(tmp_path):
    """Writes a program of our own."""

    def write(text: str) -> Path:
        (tmp_path / "program.py").write_text(text)
        return tmp_path / "program.py"

    return write


def test_a_process_that_was_killed_is_named(program):
    """It cannot say so itself; what a process says before it ends with an exit code is left to stand alone."""
    run = torchrun(
        program("import os, signal\nos.environ['RANK'] == '1' and signal.raise_signal(signal.SIGKILL)\n")
    ).end()
    assert run.returncode == 128 + 9 and "error: process 1 was ended by SIGKILL" in run.stderr
    run = torchrun(program("import sys\nsys.exit('error: no such thing')\n")).end()
    assert run.returncode == 1 and "error: no such thing" in run.stderr and "Traceback" not in run.stderr


MISSING = """
import os
import sys
import pretrain

if os.environ["RANK"] == "0":
    pretrain.run = lambda config, world: world.gather_objects(None)
pretrain.main(sys.argv[1:])
"""


def test_a_mistake_is_said_once(tiny, program):
    """By the main process, or by another one, where only that has found it."""
    words = [*tiny, "dataset.data_path=/nowhere", "epochs=1"]
    for run in (command("pretrain.py", *words, processes=2), torchrun(program(MISSING), *words).end()):
        lines = [line for line in run.stderr.splitlines() if line]
        assert run.returncode == 1 and len(lines) == 1, run.stderr
        assert lines[0].startswith("error: /nowhere/train/dataset.json: no such file")


FULL = """
import sys
import pretrain
from runtime import checkpoint

def full(*_):
    raise OSError("No space left on device")

checkpoint.save = full
pretrain.main(sys.argv[1:])
"""


@pytest.mark.parametrize("when", ["max_seconds=1", "checkpoint_interval_steps=2"])
def test_a_process_whose_sibling_could_not_save_is_no_traceback(tiny, program, when):
    """The main process finds the disk full as they stop, or on the way; the other has little to add."""
    run = command(program(FULL), *tiny, "epochs=100000", when, processes=2)
    assert run.returncode == 1 and "error: No space left on device" in run.stderr, run.stderr
    assert "Traceback" not in run.stderr


LEAVE = """
import time
import torch
from pathlib import Path
from runtime import distributed

def gloo():
    return [name for task in Path("/proc/self/task").iterdir() if "gloo" in (name := (task / "comm").read_text())]

world = distributed.start("cpu")
torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))])
assert [row.item() for row in world.gather_rows(torch.tensor([[world.rank]]))] == [0, 1]
assert gloo()
distributed.stop()
time.sleep(0.2)  # a thread that has ended stays in /proc for a moment
assert not gloo()
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads the names of threads from /proc")
def test_leaving_the_group_of_processes_ends_its_threads(program):
    """A thread of gloo's that lives on needs the interpreter to let go of its last tensors: a run ended in SIGABRT."""
    run = command(program(LEAVE), processes=2)
    assert run.returncode == 0, run.stderr


def test_a_run_has_one_training_at_a_time(tiny, tmp_path):
    """Another one changes nothing in its folder."""
    config = load_pretrain(tiny)
    log = MetricsLog(tmp_path, config, 0)
    log.write(3, {"loss": 1.0})
    with pytest.raises(ValueError, match=f"another training goes on in {tmp_path}"):
        MetricsLog(tmp_path, config.model_copy(update={"lr": 0.5}), 2)
    assert (tmp_path / "config.yaml").read_text() == to_yaml(config)
    log.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 3, "loss": 1.0}
    MetricsLog(tmp_path, config, 2).close()
    assert (tmp_path / "metrics.jsonl").read_text() == ""


STOPPED_WITHIN = """
import os, signal, sys
import pretrain
from training import loop

evaluate = loop._Run._evaluate

def stopped_within(run, *how):
    if run.world.rank == 0 and run.trainer.step == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    return evaluate(run, *how)

loop._Run._evaluate = stopped_within
pretrain.main(sys.argv[1:])
"""


def test_several_processes_stop_together_after_an_evaluation(tiny, tmp_path, program):
    """One of them hears of it within the evaluation, alone: they end that, and agree after the next step."""
    run = command(program(STOPPED_WITHIN), *tiny, "eval_interval_steps=2", "max_steps=6", processes=2)
    assert "stopped at step 3" in run.stderr, run.stderr
    directory = only_run(tmp_path)
    log = read_metrics(directory / "metrics.jsonl")
    assert checkpoint.load(directory).step == 3 and [line["step"] for line in log if "eval/best" in line] == [2]


STOPPED_BETWEEN = """
import os, signal, sys
import pretrain
from training import loop
from training.trainer import Trainer

loop.ASKING_SECONDS = 0.0
train_step = Trainer.train_step

def stopped_after(trainer):
    metrics = train_step(trainer)
    if trainer.world.rank == 1 and trainer.step == 3:
        os.kill(os.getpid(), signal.SIGTERM)
    return metrics

Trainer.train_step = stopped_after
pretrain.main(sys.argv[1:])
"""


def test_several_processes_with_slow_steps_do_not_wait_for_the_next_look(tiny, tmp_path, program):
    run = command(program(STOPPED_BETWEEN), *tiny, "log_interval_steps=1000", "max_steps=50", processes=2)
    assert run.returncode == 128 + signal.SIGTERM and "stopped at step 3" in run.stderr, run.stderr
    assert checkpoint.load(only_run(tmp_path)).step == 3
