"""Runs a recorded experiment again, or checks its shipped checkpoint: see scripts/reproduce.sh."""

import argparse
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch

from config.command import command
from dataset.layout import read_split
from reproduction.record import evaluation, record, run_config, to_text
from reproduction.recorded import (
    ROOT,
    RUNS,
    Record,
    chain,
    chance,
    evaluation_words,
    exact,
    percent,
    read,
    runs,
    selection,
    training_words,
    word,
)
from runtime.files import write_whole

RARE = 0.0027
"""A check fails where chance alone makes a difference so large less often: three standard errors of a normal."""
CSVS = ("train.csv", "test.csv")
CPU_DEPTH = 16
"""A check on a CPU goes no deeper."""
BUILDERS = {
    "maze-30x30-unique-1k": "build_maze_unique_dataset --grid-size 30 --train-samples 1000 --test-samples 1000 "
    "--maze-mode perfect --length-distribution uniform --min-path-length 100 --max-path-length 140 "
    "--require-unique --dedupe",
    "sudoku-extreme-1k-aug-1000": "build_sudoku_dataset --subsample-size 1000 --num-aug 1000",
    "sudoku-extreme-1k": "build_sudoku_dataset --subsample-size 1000",
    "sudoku-9x9-check": "build_sudoku_dataset --source generate --size 9 --train-samples 1 --test-samples 1000",
}
"""What builds data/NAME: for the first two the README's commands."""


class Check(NamedTuple):
    """How a shipped checkpoint is checked."""

    check_data: str  # whose test puzzles --check takes
    cpu_puzzles: int  # as many as two cores evaluate in about two minutes


TASKS = {
    "maze_unique": Check("maze-30x30-unique-1k", 80),
    "maze_unique_small": Check("maze-30x30-unique-1k", 200),
    "sudoku": Check("sudoku-9x9-check", 90),
}
"""What scripts/reproduce.sh can be asked for: the names of results/runs/NAME.json and of checkpoints/NAME/."""


def build(name: str, source_dir: Path | None = None) -> int:
    """Builds data/NAME unless it is there; returns how many test puzzles it has.

    Raises:
        ValueError: nobody knows how, or what is there is damaged.
        subprocess.CalledProcessError: the builder has said what is wrong.
    """
    folder = Path("data", name)
    if (folder / "identifiers.json").is_file():
        if source_dir:
            print(f"{folder} is there already, so {source_dir} is not read", file=sys.stderr)
    else:
        if name not in BUILDERS:
            raise ValueError(f"{folder} is missing, and none of the README's commands builds it")
        program, *words = shlex.split(BUILDERS[name])
        words += ["--source-dir", str(source_dir)] if source_dir else []
        file = str(ROOT / "dataset" / f"{program}.py")
        finish([sys.executable, file, *words, "--output-dir", str(folder)])
    return len(read_split(folder, "test").inputs)


def script(name: str, *words: str) -> str:
    """Runs one of the repository's scripts, and returns what it printed."""
    return finish(["bash", str(ROOT / "scripts" / name), *words], stdout=subprocess.PIPE) or ""


def finish(command: Sequence[str], stdout: int | None = None) -> str | None:
    """Runs a program to its end, which saves what it has when it is stopped; returns what it printed, if it is a pipe.

    The terminal sends Ctrl-C to the program too, so it is only noted here; SIGTERM is passed on.

    Raises:
        subprocess.CalledProcessError: the program failed, or a signal came, as if it had killed the program.
    """
    noted: list[int] = []
    with subprocess.Popen(command, stdout=stdout, text=True) as child:

        def note(number: int, _: FrameType | None) -> None:
            noted.append(number)
            if number == signal.SIGTERM:
                child.terminate()

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            printed = child.communicate()[0]
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if noted or child.returncode:
        raise subprocess.CalledProcessError(-noted[0] if noted else child.returncode, command)
    return printed


def compare(recorded: Record, here: Record) -> float:
    """Prints both accuracies at every depth, and how probable such a difference is; returns the least probability."""
    print(f"{here['dataset']}, {selection(here)}, {here['puzzles']} puzzles (recorded: {recorded['puzzles']})")
    print(f"{'depth':>5}  {'recorded, %':>16}  {'here, %':>16}  by chance")
    least = 1.0
    for depth in here["metrics"]:
        shares, puzzles = [exact(one, depth) for one in (recorded, here)], [recorded["puzzles"], here["puzzles"]]
        probability = chance(shares[0], puzzles[0], shares[1], puzzles[1])
        cells = [percent(*one).rjust(16) for one in zip(shares, puzzles, strict=True)]
        print(f"{depth:>5}  {'  '.join(cells)}  {probability:.2g}")
        least = min(least, probability)
    return least


def check(run: Record, checkpoint: Path, data: str, most: int | None, deepest: int | None) -> bool:
    """Evaluates a checkpoint as was recorded, with one start a puzzle; whether all accuracies agree, but for chance.

    Args:
        run: the record.
        checkpoint: the file.
        data: a folder in data/, which is there.
        most: evaluate so many puzzles, evenly spread (None: all).
        deepest: leave out greater depths (None: none).

    Raises:
        ValueError: the record has nothing to compare with, or is of other puzzles.
    """
    plain = {"split": "test", "different_init": 1, "streaming": False}
    plain |= {"perturb_std": 0.0, "ema": True, "max_puzzles": None}
    fitting = [
        one
        for one in run["evaluations"]
        if one["dataset"] == data and plain.items() <= one["settings"].items() and "kernels" not in one["settings"]
    ]
    if not fitting:
        raise ValueError(f"the record of {run['name']} has no evaluation of one start a puzzle on all of {data}")
    one = max(fitting, key=lambda one: len(one["metrics"]))
    total = len(read_split(Path("data", data), "test").inputs)
    if total != one["puzzles"]:
        raise ValueError(f"data/{data} has {total} test puzzles, but {one['puzzles']} others were recorded")
    if most is not None and most > total:
        raise ValueError(f"--puzzles should be at most {total}, the test puzzles of data/{data}, but it is {most}")
    depths = [int(depth) for depth in one["metrics"]]
    depths = [depth for depth in depths if deepest is None or depth <= deepest] or [min(depths)]
    settings = one["settings"] | {"halt_max_steps": depths, "max_puzzles": most, "kernels": "auto"}
    with tempfile.TemporaryDirectory() as folder:
        words = evaluation_words(run, one | {"settings": settings})
        script("eval.sh", str(checkpoint), *words, word("eval_dir", folder))
        least = compare(one, evaluation(Path(folder), run["config"]["arch"]))
    fine = least >= RARE
    print("as recorded" if fine else f"NOT as recorded: chance does this in less than {RARE:.2%} of comparisons")
    return fine


def train(run: Record) -> Path:
    """Trains a recorded run again, and before it the run that it went on from; returns its folder."""
    _, *earlier = chain(run, runs(RUNS))
    words = training_words(run, earlier, str(train(earlier[0])) if earlier else "")
    [done] = [line for line in script("train.sh", *words).splitlines() if line.startswith("done: ")]
    return Path(done.removeprefix("done: "))


def _refuse_other(recorded: Record, there: Record, folder: Path, total: int) -> None:
    """Raises ValueError where `folder` holds an evaluation of other settings or data than the record.

    Nor may it be of fewer puzzles, or more, unless the test set that is here has no more than these `total`.
    """
    free = {"max_puzzles", "kernels", "per_puzzle"}
    other = [name for name, value in recorded["settings"].items() if there["settings"].get(name) != value]
    other = [name for name in other if name not in free]
    other += ["dataset"] * (there["dataset"] != recorded["dataset"])
    puzzles = recorded["puzzles"] if recorded["settings"]["split"] == "train" else min(recorded["puzzles"], total)
    other += ["number of puzzles"] * (there["puzzles"] != puzzles)
    if other:
        raise ValueError(f"{folder} holds an evaluation with another {other[0]} than the recorded one: remove it")


def reproduce(run: Record, source_dir: Path | None, directory: Path | None) -> Path:
    """Builds, trains (unless `directory` is a run already), evaluates and records; returns the new record's file."""
    if directory is not None and (name := run_config(directory).run_name) != run["config"]["run_name"]:
        raise ValueError(f"{directory} is a run of {name}, not of {run['config']['run_name']}")
    if directory is not None and (step := record(directory, [])["steps"]) != run["steps"]:
        raise ValueError(f"{directory} is at step {step}, but the recorded run ended at step {run['steps']}")
    own = Path(run["config"]["dataset"]["data_path"]).name
    sets = dict.fromkeys([own, *(one["dataset"] for one in run["evaluations"])])
    totals = {name: build(name, source_dir if name.startswith("sudoku-extreme") else None) for name in sets}
    directory = directory or train(run)
    folders = [directory / f"evaluation_{number}" for number in range(len(run["evaluations"]))]
    for one, folder in zip(run["evaluations"], folders, strict=True):
        if (folder / "results.json").is_file():
            _refuse_other(one, evaluation(folder, run["config"]["arch"]), folder, totals[one["dataset"]])
        else:
            settings = one["settings"] | {"max_puzzles": one["puzzles"], "kernels": "auto"}  # float8 is not everywhere
            words = evaluation_words(run, one | {"settings": settings})
            print(script("eval.sh", str(directory), *words, word("eval_dir", str(folder))))
    write_whole(file := directory / "record.json", to_text(record(directory, folders, after=run.get("after"))))
    for one, folder in zip(run["evaluations"], folders, strict=True):
        whole = one["settings"]["max_puzzles"] is None and one["settings"]["split"] == "test"
        if whole and totals[one["dataset"]] != one["puzzles"]:
            print(f"the test puzzles are others than those recorded: {totals[one['dataset']]} in data/{one['dataset']}")
        compare(one, evaluation(folder, run["config"]["arch"]))
    return file


def _run(given: argparse.Namespace) -> int:
    task, on_gpu = TASKS[given.task], torch.cuda.is_available()
    if given.source_dir and given.task != "sudoku":
        raise ValueError("--source-dir goes with sudoku: the mazes are made here")
    if given.check and given.run or given.puzzles and not given.check:
        raise ValueError("--puzzles goes with --check, and --run without it")
    if given.puzzles is not None and given.puzzles < 1:
        raise ValueError(f"--puzzles should be 1 or more, but it is {given.puzzles}")
    if given.source_dir and (missing := [name for name in CSVS if not (given.source_dir / name).is_file()]):
        raise ValueError(
            f"--source-dir should hold {' and '.join(CSVS)}, but {given.source_dir / missing[0]} is missing"
        )
    if not (on_gpu or given.check or given.run):
        raise ValueError("training needs a GPU, and there is none here; --check and --run RUN_DIR work without one")
    file = RUNS / f"{given.task}.json"
    if not file.is_file():
        raise ValueError(f"{file.relative_to(ROOT)} is not there: this run has not been recorded yet")
    run = read(file)
    if not given.check:
        print(f"recorded in {reproduce(run, given.source_dir, given.run)}")
        return 0
    checkpoint = ROOT / "checkpoints" / given.task / "last.safetensors"
    if not checkpoint.is_file():
        raise ValueError(f"{checkpoint.relative_to(ROOT)}, the shipped checkpoint, is not there")
    data = Path(run["config"]["dataset"]["data_path"]).name if given.source_dir else task.check_data
    build(data, given.source_dir)
    most = given.puzzles or (None if on_gpu else task.cpu_puzzles)
    return 0 if check(run, checkpoint, data, most, None if on_gpu else CPU_DEPTH) else 1


@command()
def main(words: Sequence[str]) -> int:
    """The command line. Exit code: 1 for a mistake or a failed check; also of a program that failed, its own."""
    parser = argparse.ArgumentParser(prog="reproduce.sh", description="Run a recorded experiment again, or check it.")
    parser.add_argument("task", choices=TASKS, help="mazes with one path (264K parameters; 42K), Sudoku-Extreme")
    parser.add_argument("--check", action="store_true", help="evaluate the shipped checkpoint and compare, no more")
    parser.add_argument("--puzzles", type=int, metavar="N", help="--check: so many (all; on a CPU two minutes' worth)")
    parser.add_argument("--source-dir", type=Path, metavar="D", help="sudoku: take train.csv and test.csv from here")
    parser.add_argument("--run", type=Path, metavar="RUN_DIR", help="a run that is trained: evaluate and compare it")
    try:
        return _run(parser.parse_args(words))
    except subprocess.CalledProcessError as error:
        return error.returncode if error.returncode > 0 else 128 - error.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
