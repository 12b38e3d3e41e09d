"""A tiny data set that a tiny model can learn, and commands as a user types them."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import forked
import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # kernels run on the CPU; read when they are imported

from config.load import load_pretrain  # noqa: E402
from dataset.layout import Split, puzzle_split, write_dataset  # noqa: E402
from dataset.puzzles import Puzzles, TrainingBatches  # noqa: E402
from evaluation import units  # noqa: E402
from models.build import build  # noqa: E402
from runtime.distributed import World  # noqa: E402
from training.trainer import Trainer, seed_step  # noqa: E402

if TYPE_CHECKING:
    from reproduction.records import Record

torch.set_num_threads(1)  # a second thread waits for cores that other processes of the tests use
ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
BUILT = json.loads((GOLDEN / "datasets" / "expected.json").read_text())
"""What the released builders write: their arguments and arrays by name."""
CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)
TINY = [
    "train=quickstart",
    "arch.hidden_size=16",
    "arch.num_heads=2",
    "global_batch_size=8",
    "epochs=100",
    "eval_interval_steps=null",
    "checkpoint_interval_steps=null",
    "log_interval_steps=1",
]


def tiny_split(count: int, seed: int, identifiers: int = 1) -> Split:
    """Puzzles of 8 tokens; token i of the answer depends on tokens i and i-1 of the question; some are not scored."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(1, 5, (count, 8)).astype(np.uint8)
    labels = ((inputs + np.roll(inputs, 1, axis=1)) % 4 + 1).astype(np.uint8)
    labels[rng.random((count, 8)) < 0.1] = 0
    split = puzzle_split(inputs, labels, vocab_size=6)
    metadata = split.metadata.model_copy(update={"num_puzzle_identifiers": identifiers})
    ids = rng.integers(0, identifiers, count).astype(np.int32)
    return replace(split, puzzle_identifiers=ids, metadata=metadata)


def make_trainer(words: list[str]) -> Trainer:
    """A trainer before its first step."""
    config = load_pretrain(words)
    puzzles = Puzzles(config.dataset.data_path, "train", CPU)
    seed_step(config.seed, 0, 0)
    model = build(config.arch, puzzles.shape)
    return Trainer(config, model, TrainingBatches(puzzles, config.global_batch_size, config.seed), ALONE)


def built_by(builder: str) -> list[str]:
    """The names in BUILT of a builder's data sets."""
    return [name for name, wanted in BUILT.items() if wanted["builder"] == builder]


def assert_same_bits(folder: Path, name: str) -> None:
    """The files of a data set are those that the released builder wrote."""
    for file, wanted in BUILT[name]["arrays"].items():
        if file.endswith(".json"):
            assert json.loads((folder / file).read_text()) == wanted
            continue
        array = np.load(folder / file)
        assert [str(array.dtype), list(array.shape)] == [wanted["dtype"], wanted["shape"]]
        assert hashlib.sha256(array.tobytes()).hexdigest() == wanted["sha256"], file


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("data") / "tiny"
    splits = {"train": tiny_split(40, 0, identifiers=3), "test": tiny_split(11, 1, identifiers=3)}
    write_dataset(directory, splits, ["<blank>", "a", "b"])
    return directory


@pytest.fixture
def tiny(tiny_data, tmp_path) -> list[str]:
    """Words that train a tiny EqR on the tiny data, writing below tmp_path."""
    return [*TINY, f"dataset.data_path={tiny_data}", f"checkpoint_path={tmp_path}"]


ENVIRONMENT = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
"""Of programs that tests start."""


def start(program: str | Path, *words: str, processes: int = 1, given: str = "", **more: str) -> forked.Running:
    """Starts pretrain.py or another program ("-m", then its name) as a user would.

    Args:
        program: a file of the repository, or any other, or -m.
        words: what follows it.
        processes: how many, each knowing of the others as with torchrun.
        given: their standard input.
        more: environment variables.
    """
    words = (program if program == "-m" else str(ROOT / program), *words)
    return forked.Running(*words, processes=processes, environment=os.environ | ENVIRONMENT | more, given=given)


def torchrun(program: str | Path, *words: str, processes: int = 2, **more: str) -> forked.Running:
    """Starts a program in several processes with all that scripts/train.sh has around it."""
    launcher = ["scripts/launch.py", "--standalone", f"--nproc_per_node={processes}", str(ROOT / program)]
    return start(*launcher, *words, PYTHONPATH=str(ROOT), **more)


def command(program: str | Path, *words: str, processes: int = 1, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs one from its start to its end."""
    return start(program, *words, processes=processes, **more).end()


@pytest.fixture
def echo(tmp_path) -> Path:
    """A virtual environment whose interpreter prints the words that it gets, one a line."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    return tmp_path / "venv"


def exit_code(main: Callable[[list[str]], int | None], words: list[str]) -> int:
    """The exit code of a command line that runs in this process."""
    try:
        return main(words) or 0
    except SystemExit as end:
        return end.code


def only_run(directory: Path) -> Path:
    """The one run below a checkpoint_path."""
    [run] = [path.parent for path in directory.glob("*/*/config.yaml")]
    return run


def results_of(folder: Path) -> dict[str, Any]:
    """What the results.json of an evaluation holds."""
    return json.loads((folder / "results.json").read_text())


def metrics_of(folder: Path) -> dict[str, dict[str, float]]:
    """The metrics of an evaluation, by depth."""
    return results_of(folder)["metrics"]


def header_and_tensors(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What a checkpoint holds, for a test that changes it."""
    with safe_open(file, "pt") as reader:
        return reader.metadata(), {key: reader.get_tensor(key) for key in reader.keys()}


@pytest.fixture(scope="module")
def small_streaming_units():
    """Makes few puzzles several units."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "FILLS", 1)
        yield


@pytest.fixture(scope="session")
def tiny_work(tiny_data, tmp_path_factory) -> Path:
    """A folder with data/tiny, a run on it in two slices (outputs/), and two evaluations of the run (one/, four/)."""
    import evaluate
    import pretrain

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


@pytest.fixture(scope="session")
def tiny_run(tiny_work) -> Path:
    """The run's folder."""
    return only_run(tiny_work / "outputs")


@pytest.fixture(scope="session")
def tiny_record(tiny_work, tiny_run) -> "Record":
    """The record of the run and its evaluations."""
    from reproduction.record import record

    return record("tiny", tiny_run, [tiny_work / "one", tiny_work / "four"], hardware="2 CPU cores")


@pytest.fixture
def tiny_values(tiny_record) -> dict[str, Any]:
    """The record as JSON has it, for a test that changes it."""
    from reproduction.records import to_text

    return json.loads(to_text(tiny_record))


def parsed(values: dict[str, Any]) -> "Record":
    """The record that JSON has as these values."""
    from reproduction.records import Record

    return Record.model_validate(values)
