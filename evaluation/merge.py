"""Puts the parts of an evaluation together: python -m evaluation.merge EVAL_DIR [EVAL_DIR ...] [--output DIR]

The folders are those that jobs with shard=1/16, 2/16, ... wrote (one folder, if they shared it). Settings must be
the same, and every unit of work must be there.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from config.command import command
from evaluation.halting import Halting
from evaluation.observers.arc import votes_by_depth
from evaluation.observers.maze import shares
from evaluation.observers.per_puzzle import FILE, write_per_puzzle
from evaluation.partial import Partial, refuse_other
from evaluation.results import results_table, write_results
from evaluation.settings import Settings
from evaluation.units import Done, metrics_by_depth

SUBMISSION = "submission.json"


def settings_of(about: dict[str, Any]) -> Settings:
    """The settings that parts were made with."""
    fields = about["settings"]
    return Settings(**fields | {"halting": Halting(**fields["halting"]) if fields["halting"] else None})


def data_of(about: dict[str, Any]) -> Path:
    """Where the puzzles lie: as they were named, if that is here, or else where that was."""
    named = Path(about["facts"]["dataset"])
    return named if named.is_dir() else Path(about.get("data", named))


def conclude(directory: Path, about: dict[str, Any], done: Sequence[Done], more: dict[str, Any]) -> None:
    """Prints the table and writes results.json, results.csv and what else was asked for; `more` are facts to add.

    What an earlier evaluation left in the folder beside these is deleted, as are tables by group.
    """
    settings = settings_of(about)
    metrics = metrics_by_depth(done, about["puzzles"], settings)
    if about["arc"]:
        votes = votes_by_depth(data_of(about), settings.depths, [part.observed["arc"] for part in done])
        for depth, at_depth in votes.items():
            metrics[depth] |= at_depth.metrics()
    if about["maze"]:
        for depth, share in shares([part.observed["maze"] for part in done]).items():
            metrics[depth] |= share
    seconds = sum(part.seconds for part in done)
    work = {
        "process_seconds": round(seconds, 3),
        "device_seconds": round(sum(part.device_seconds for part in done), 3),
        "puzzles_per_process_second": round(about["puzzles"] / seconds, 3),
    }
    print(results_table(metrics))
    print(
        "work: {process_seconds} s, {device_seconds} of the device, {puzzles_per_process_second} puzzles/s".format(
            **work
        )
    )
    for file in (directory / FILE, directory / SUBMISSION, *directory.glob("by_*.json")):
        file.unlink(missing_ok=True)
    if about["facts"]["settings"].get("per_puzzle"):
        write_per_puzzle(directory, [part.observed["per_puzzle"] for part in done])
    write_results(directory, about["facts"] | more | {"work": work}, metrics)
    if about["arc"]:
        votes[max(votes)].write_submission(directory / SUBMISSION)


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")


def merge(directories: Sequence[Path], output: Path) -> None:
    """Writes the results of an evaluation whose parts lie in these folders into `output`.

    Raises:
        ValueError: a folder holds no parts, they are of different evaluations, or some are missing.
    """
    about: dict[str, Any] | None = None
    done: dict[int, Done] = {}
    for directory in directories:
        partial = Partial(directory)
        there = partial.about()
        if there is None:
            raise ValueError(f"{directory} holds no parts of an evaluation (evaluate into it with shard=1/2, ...)")
        about = about or there
        refuse_other(about, there, directory)
        done |= {part.unit: part for part in partial.done()}
    assert about is not None
    missing = [unit for unit in range(about["units"]) if unit not in done]
    if missing:
        raise ValueError(
            f"{len(missing)} of {about['units']} units of work are missing (numbers {_listed(missing)}): "
            "a job has not finished, or its folder was not named; the same command with its eval_dir goes on"
        )
    processes = {"processes": None, "seconds": None}
    conclude(output, about, [done[unit] for unit in sorted(done)], processes)


@command()
def main(words: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Put the parts of an evaluation together.")
    parser.add_argument("directories", nargs="+", type=Path, metavar="EVAL_DIR", help="folders that evaluate.py wrote")
    parser.add_argument("--output", type=Path, help="where the results go (the first folder)")
    arguments = parser.parse_args(words)
    output = arguments.output or arguments.directories[0]
    merge(arguments.directories, output)
    print(f"everything, with all settings: {output}")


if __name__ == "__main__":
    main(sys.argv[1:])
