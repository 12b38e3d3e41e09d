"""Accuracy by what is known of the puzzles: python -m evaluation.by_group EVAL_DIR CSV [--column rating] ...

EVAL_DIR is that of an evaluation with per_puzzle=true; the rows of CSV are the puzzles of its split, in order. For each
column a table a depth is printed, and EVAL_DIR/by_COLUMN.json is written. Numbers are binned, text is not.

Shapes: E examples in the split, N puzzles.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from config.command import command
from dataset.csv_puzzles import csv_rows
from dataset.puzzles import evenly_spread
from evaluation.observers.per_puzzle import FILE, read_per_puzzle
from evaluation.results import read_results
from runtime.files import write_whole

Outcomes = dict[str, np.ndarray]
"""The columns of per_puzzle.csv."""

_RULES = ("majority", "best_converged")
_HEADINGS = {"exact_accuracy": "exact", "majority": "vote", "best_converged": "best converged"}


def read_outcomes(directory: Path) -> tuple[Outcomes, int]:
    """What became of the puzzles of an evaluation, and how many puzzles its split has.

    Raises:
        ValueError: the evaluation was made without per_puzzle=true, or its files do not fit together.
    """
    results = read_results(directory)
    if "examples" not in results:
        raise ValueError(f"{directory} does not say what became of every puzzle: evaluate with per_puzzle=true")
    outcomes = read_per_puzzle(directory)
    depths = sorted(map(int, results["metrics"]))
    examples = evenly_spread(results["examples"], int(results["metrics"][str(depths[0])]["puzzles"]))
    expected = np.repeat(depths, len(examples)), np.tile(examples, len(depths))
    if not all(map(np.array_equal, (outcomes["depth"], outcomes["example"]), expected)):
        raise ValueError(f"{directory / FILE} is not of the evaluation in results.json beside it, or not all of it")
    return outcomes, results["examples"]


def read_columns(file: Path, names: Sequence[str], examples: int) -> dict[str, list[str]]:
    """These columns of a CSV, which must have so many rows; ValueError otherwise."""
    rows = [fields for _, fields in csv_rows(file, names)]
    if len(rows) != examples:
        raise ValueError(f"{file} has {len(rows)} rows, but the split that was evaluated has {examples} puzzles")
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def read_numbers(file: Path, name: str, examples: int) -> np.ndarray:
    """A column of numbers of a CSV, which must have so many rows; ValueError otherwise."""
    numbers = _numbers(read_columns(file, [name], examples)[name])
    if numbers is None:
        raise ValueError(f"{file}: not all in its column {name} are numbers")
    return numbers


def _numbers(texts: Sequence[str]) -> np.ndarray | None:
    """None where not all are finite numbers."""
    try:
        numbers = np.array(texts, float)
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def parse_bins(text: str) -> list[float]:
    """Edges of bins from "0,1,10"; ValueError where they do not ascend."""
    edges = _numbers(text.split(","))
    if edges is None or (np.diff(edges) <= 0).any():
        raise ValueError(f"--bins takes ascending numbers like 0,1,10, not {text!r}")
    return edges.tolist()


def grouped(values: Sequence[str], edges: Sequence[float]) -> tuple[list[str], np.ndarray]:
    """Names of groups in their order, and the group of every value: bins if all values are numbers."""
    numbers = _numbers(values)
    if numbers is not None:
        between = [f"[{low:g}, {high:g})" for low, high in zip(edges, edges[1:], strict=False)]
        names = [f"below {edges[0]:g}", *between, f"{edges[-1]:g} and more"]
        return names, np.searchsorted(edges, numbers, side="right")
    found, group_N = np.unique(np.array(values), return_inverse=True)
    return found.tolist(), group_N


def _share(right: float, of: float, puzzles: int) -> dict[str, float]:
    """A share, and its error as that of one trajectory of each puzzle: those of one puzzle are not independent."""
    share = right / of
    return {"share": share, "error": math.sqrt(share * (1 - share) / puzzles), "puzzles": puzzles}


def accuracies(outcomes: Outcomes, rules: Sequence[str]) -> dict[str, dict[str, float]]:
    """Of single trajectories, and of rules that choose one of a puzzle's."""
    right, trajectories = outcomes["right"].sum(), outcomes["trajectories"].sum()
    found = {"exact_accuracy": _share(float(right), float(trajectories), len(outcomes["right"]))}
    for name in rules:
        there = outcomes[name][~np.isnan(outcomes[name])]
        if len(there):
            found[name] = _share(float(there.sum()), len(there), len(there))
    return found


def by_group(outcomes: Outcomes, names: Sequence[str], group_E: np.ndarray) -> dict[int, list[dict[str, Any]]]:
    """By depth, the accuracies of every group that has puzzles and, at last, those of all."""
    rules = _RULES if (outcomes["trajectories"] > 1).any() else ()
    found = {}
    for depth in np.unique(outcomes["depth"]):
        here = {name: column[outcomes["depth"] == depth] for name, column in outcomes.items()}
        group_N = group_E[here["example"].astype(int)]
        parts = [(names[group], group_N == group) for group in np.unique(group_N)]
        found[int(depth)] = [
            {"group": name, "puzzles": int(part_N.sum())}
            | accuracies({key: column[part_N] for key, column in here.items()}, rules)
            for name, part_N in [*parts, ("all", np.full(len(group_N), True))]
        ]
    return found


def table(groups: list[dict[str, Any]]) -> str:
    """One line a group."""
    shown = [name for name in _HEADINGS if any(name in group for group in groups)]
    lines = [["group", "puzzles", *(_HEADINGS[name] for name in shown)]]
    for group in groups:
        cells = [f"{100 * at['share']:.2f}% ± {100 * at['error']:.2f}%" if at else "-" for at in map(group.get, shown)]
        lines.append([group["group"], str(group["puzzles"]), *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines)


def run(directory: Path, file: Path, columns: Sequence[str], bins: str) -> None:
    """Tabulates and writes; raises ValueError, before anything is written, where something is wrong."""
    edges = parse_bins(bins)
    if unfit := [column for column in columns if "/" in column]:
        raise ValueError(f"--column {unfit[0]} would be part of a file's name, so it may have no /")
    outcomes, examples = read_outcomes(directory)
    found = {}
    for column, values in read_columns(file, columns, examples).items():
        found[column] = by_group(outcomes, *grouped(values, edges))
    for column, at_depths in found.items():
        for depth, groups in at_depths.items():
            print(f"depth {depth}, by {column}\n{table(groups)}\n")
        write_whole(directory / f"by_{column}.json", json.dumps(at_depths, indent=1) + "\n")


@command()
def main(words: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Tabulate an evaluation's accuracy by groups of puzzles.")
    parser.add_argument("directory", type=Path, metavar="EVAL_DIR", help="of an evaluation with per_puzzle=true")
    parser.add_argument("file", type=Path, metavar="CSV", help="its rows are the puzzles of the split, in order")
    parser.add_argument(
        "--column", action="append", dest="columns", metavar="NAME", help="group by it (source and rating)"
    )
    parser.add_argument("--bins", default="0,1,10,20,30,50", metavar="EDGES", help="of numbers (%(default)s)")
    arguments = parser.parse_args(words)
    columns = list(dict.fromkeys(arguments.columns or ["source", "rating"]))
    run(arguments.directory, arguments.file, columns, arguments.bins)


if __name__ == "__main__":
    main(sys.argv[1:])
