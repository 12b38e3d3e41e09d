"""Runs the repository's programs to their ends: builders of data sets, and scripts."""

import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from dataset.layout import read_split
from reproduction.records import ROOT

BUILDERS = {
    "maze-30x30-unique-1k": "build_maze_unique_dataset --grid-size 30 --train-samples 1000 --test-samples 1000 "
    "--maze-mode perfect --length-distribution uniform --min-path-length 100 --max-path-length 140 "
    "--require-unique --dedupe",
    "sudoku-extreme-1k-aug-1000": "build_sudoku_dataset --subsample-size 1000 --num-aug 1000",
    "sudoku-extreme-1k": "build_sudoku_dataset --subsample-size 1000",
    "sudoku-9x9-check": "build_sudoku_dataset --source generate --size 9 --train-samples 1 --test-samples 1000",
}
"""The builder's words for data/NAME. The documents have the first two."""


def is_built(name: str) -> bool:
    """Whether data/NAME is there."""
    return Path("data", name, "identifiers.json").is_file()


def build(name: str, source_dir: Path | None = None) -> int:
    """Builds data/NAME unless it exists; returns the number of its test puzzles.

    Raises:
        ValueError: no builder is known for it, or the existing folder is damaged.
        subprocess.CalledProcessError: the builder failed, and has said why.
    """
    folder = Path("data", name)
    if is_built(name):
        if source_dir:
            print(f"{folder} is there already, so {source_dir} is not read", file=sys.stderr)
    else:
        if name not in BUILDERS:
            raise ValueError(f"{folder} is missing, and this program does not build it: docs/data.md says how")
        program, *words = shlex.split(BUILDERS[name])
        words += ["--source-dir", str(source_dir)] if source_dir else []
        file = str(ROOT / "dataset" / f"{program}.py")
        finish([sys.executable, file, *words, "--output-dir", str(folder)])
    return len(read_split(folder, "test").inputs)


def script(name: str, *words: str) -> str:
    """Runs one of the repository's scripts; returns what it printed."""
    return finish(["bash", str(ROOT / "scripts" / name), *words], stdout=subprocess.PIPE) or ""


def finish(command: Sequence[str], stdout: int | None = None) -> str | None:
    """Runs a program to its end; returns what it printed, if `stdout` is a pipe.

    A program that is stopped saves first, so this waits for it. The terminal sends Ctrl-C to the program too, so
    SIGINT is only noted here. SIGTERM is passed on.

    Raises:
        subprocess.CalledProcessError: the program failed. A signal counts as if it had killed the program.
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


def trained(words: Sequence[str]) -> Path:
    """Trains with these words for scripts/train.sh; returns the run's folder.

    Raises:
        ValueError: max_seconds ended the training.
        subprocess.CalledProcessError: the training failed, and has said why.
    """
    done = [line for line in script("train.sh", *words).splitlines() if line.startswith("done: ")]
    if not done:
        raise ValueError("max_seconds ended the training before its last step, so there is nothing to record yet")
    return Path(done[0].removeprefix("done: "))
