"""Puts the parts of an evaluation together: python -m evaluation.merge EVAL_DIR [EVAL_DIR ...] [--output DIR]

The folders are those that jobs with shard=1/16, 2/16, ... wrote (one folder, if they shared it). Settings must be
the same, and every unit of work must be there.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from config.command import command, print_lines
from evaluation.about import About
from evaluation.observers import OBSERVERS
from evaluation.partial import Partial
from evaluation.results import read_results, results_table, write_results
from evaluation.units import Part, metrics_by_depth
from runtime.files import write_whole

LISTED = 5
"""Missing units that a sentence names, at most."""


def conclude(
    directory: Path, about: About, parts: Sequence[Part], processes: int | None = None, seconds: float | None = None
) -> None:
    """Writes results.json, results.csv and the files of observers into `directory`, then prints the table.

    Raises:
        ValueError: the results of another evaluation are there.
    """
    about.is_finished(directory)
    parts = sorted(parts, key=lambda part: part.unit)
    metrics = metrics_by_depth(parts, about.puzzles, about.settings)
    files: dict[str, str] = {}
    for name in parts[0].observed or {}:
        findings = OBSERVERS[name].finish([part.observed[name] for part in parts], about.data_path())
        files |= findings.files
        for depth, values in findings.metrics.items():
            metrics[depth] |= values
    process_seconds = sum(part.seconds for part in parts)
    work = {
        "process_seconds": round(process_seconds, 3),
        "device_seconds": round(sum(part.device_seconds for part in parts), 3),
        "puzzles_per_process_second": round(about.puzzles / process_seconds, 3),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        write_whole(directory / file, text)
    settings = about.facts["settings"] | {"shard": None}  # these are the results of all
    write_results(
        directory,
        about.facts
        | {"settings": settings, "processes": processes, "seconds": seconds, "work": work, "same": about.same},
        metrics,
    )
    show(directory)
    print(
        f"work: {work['process_seconds']} s, {work['device_seconds']} of the device, "
        f"{work['puzzles_per_process_second']} puzzles/s"
    )


def show(directory: Path) -> None:
    """Prints the table of a finished evaluation."""
    results = read_results(directory)
    columns = {heading: name for observer in OBSERVERS.values() for heading, name in observer.columns.items()}
    settings = results["settings"]
    print_lines(results_table(results["metrics"], columns, settings.get("recipe"), settings.get("note")))


def merge(directories: Sequence[Path], output: Path) -> None:
    """Writes the results of an evaluation into `output`; its parts lie in these folders.

    Raises:
        ValueError: a folder holds no parts, they belong to different evaluations, or some are missing.
    """
    about: About | None = None
    parts: dict[int, Part] = {}
    for directory in directories:
        partial = Partial(directory)
        about = about or partial.about()
        if about is None or not partial.has(about):
            raise ValueError(f"{directory} holds no parts of an evaluation (evaluate into it with shard=1/2, ...)")
        parts |= {part.unit: part for part in partial.parts()}
    assert about is not None
    if count := about.units - len(parts):
        missing = list(islice((unit for unit in range(about.units) if unit not in parts), LISTED))
        numbers = ", ".join(map(str, missing)) + (f" and {count - LISTED} more" if count > LISTED else "")
        raise ValueError(
            f"{count} of {about.units} units of work are missing (numbers {numbers}): "
            "a job has not finished, or its folder was not named; the same command with its eval_dir goes on"
        )
    conclude(output, about, list(parts.values()))


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
