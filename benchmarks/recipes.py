"""Compares training recipes at equal time: python -m benchmarks.recipes --seconds 230 "eqr_sudoku lr=3e-4" ...

Each argument is a run as scripts/train.sh takes it. A short trial measures a step of it. Then it trains for as many
steps as fit into the time, so that its schedule ends there, and evaluates the averaged weights on all test puzzles.
Put the puzzles there by which you choose, not those by which you judge the choice.
"""

import argparse
import json
import math
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from config.command import command, unwinding
from config.load import load_pretrain
from dataset.layout import read_split
from reproduction.accuracy import percent
from runtime.files import write_whole
from runtime.run_log import METRICS, Line, read_metrics
from runtime.versions import ROOT, versions

ALONE = (
    "eval_interval_steps=null",
    "checkpoint_interval_steps=null",
    "checkpoint_latents=false",
    f"epochs={10**9}",
    "max_steps=null",
)
"""Nothing but steps takes time before the end, and nothing but the time says when that is."""


def words_of(recipe: str) -> list[str]:
    """The words of a recipe for pretrain.py: "NAME key=value ..." with `train=` before the name.

    Raises:
        ValueError: a quotation mark has no partner.
    """
    try:
        name, *words = shlex.split(recipe) or [""]
    except ValueError as error:
        raise ValueError(f"a recipe should be quoted as in a shell, but {recipe} is not: {error}") from None
    return [f"train={name}", *words, *ALONE]


def require(recipe: str) -> None:
    """Raises ValueError if a recipe says what it must not, or its data are missing."""
    folder = load_pretrain(words_of(recipe)).dataset.data_path
    for split in ("train", "test"):
        read_split(folder, split)


def train(words: Sequence[str], folder: Path) -> list[Line]:
    """Trains in a process of its own, into a new folder. Returns the lines of its log.

    Raises:
        ValueError: the training failed; the sentence ends with what it said.
    """
    done = subprocess.run(
        [sys.executable, ROOT / "pretrain.py", *words, f"run_dir={folder}", "wandb_mode=disabled"],
        stderr=subprocess.PIPE,
        text=True,
        stdout=subprocess.DEVNULL,
    )
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1].removeprefix("error: ")
        raise ValueError(f"pretrain.py {shlex.join(words)} failed: {why}")
    return read_metrics(folder / METRICS)


def step_seconds(words: Sequence[str], folder: Path, trial: float) -> float:
    """The median time of a step in the second half of a trial of so many seconds, compiling included in those.

    Raises:
        ValueError: the trial was too short.
    """
    log = train([*words, f"max_seconds={trial}", "log_interval_steps=5"], folder)
    rates = [line["train/samples_per_second"] for line in log if "train/samples_per_second" in line]
    if len(rates) < 4:
        raise ValueError(f"--trial should be longer: in {trial:g} s there were fewer than 20 steps")
    return load_pretrain(list(words)).global_batch_size / statistics.median(rates[len(rates) // 2 :])


def measure(recipe: str, seconds: float, trial: float) -> dict[str, Any]:
    """Trains a recipe for so many seconds. Returns its row."""
    words = words_of(recipe)
    with tempfile.TemporaryDirectory() as folder:
        steps = max(1, int(seconds / step_seconds(words, Path(folder, "trial"), trial)))
        log = train([*words, f"max_steps={steps}", "max_seconds=null"], Path(folder, "run"))
    last = log[-1]
    return {
        "recipe": recipe,
        "steps": steps,
        "seconds": round(sum(line.get("train/process_seconds", 0.0) for line in log), 1),
        "puzzles": int(last["final/puzzles"]),
        "exact_accuracy": last["final/all/exact_accuracy"],
        "token_accuracy": last["final/all/accuracy"],
    }


@command()
@unwinding()
def main(words: Sequence[str]) -> None:
    """The command line. All recipes and their data are checked before the first trains.

    Rows that are done stay in the file, whatever ends the program.
    """
    parser = argparse.ArgumentParser(description="Training recipes at equal time.")
    parser.add_argument("recipes", nargs="+", metavar='"NAME key=value ..."')
    parser.add_argument("--seconds", type=float, required=True, help="of training, for each recipe")
    parser.add_argument("--trial", type=float, default=45.0, help="seconds in which a step is measured (%(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="a new file (outputs/recipes_<time>.json)")
    given = parser.parse_args(words)
    if not all(0 < seconds < math.inf for seconds in (given.seconds, given.trial)):
        raise ValueError("--seconds and --trial should be finite and above 0")
    output = given.output or Path("outputs", time.strftime("recipes_%Y%m%d-%H%M%S.json"))
    if output.exists():
        raise ValueError(f"--output should be a new file, but {output} is there already")
    for recipe in given.recipes:
        require(recipe)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    rows = []
    print(f"rows go to {output}", file=sys.stderr)
    print("| recipe | steps | seconds | exact, % |\n| --- | ---: | ---: | ---: |")
    for recipe in given.recipes:
        row = measure(recipe, given.seconds, given.trial)
        rows.append(row)
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, json.dumps({"device": device, "versions": versions(), "recipes": rows}, indent=1) + "\n")
        cells = [f"`{recipe}`", str(row["steps"]), str(row["seconds"]), percent(row["exact_accuracy"], row["puzzles"])]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
