"""Accuracy by groups of puzzles: python -m evaluation.by_group EVAL_DIR CSV [--column rating] ...

EVAL_DIR is the folder of an evaluation with per_puzzle=true. The rows of the CSV are the puzzles of its split, in
order. For each column this prints a table per depth, and writes EVAL_DIR/by_COLUMN.json. Numbers are binned, text is
not.

Shapes: E examples in the split, N puzzles.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from config.command import command, print_lines
from dataset.csv_puzzles import csv_rows
from dataset.puzzles import evenly_spread
from evaluation.metrics import standard_error
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
        ValueError: the evaluation ran without per_puzzle=true, or its files do not fit together.
    """
    results = read_results(directory)
    if results.get("examples") is None:
        raise ValueError(f"{directory} holds no outcome for each puzzle: evaluate with per_puzzle=true")
    outcomes = read_per_puzzle(directory)
    depths, lines = sorted(map(int, results["metrics"])), len(outcomes["depth"])
    puzzles = int(results["metrics"][str(depths[0])]["puzzles"])
    examples = evenly_spread(results["examples"], min(puzzles, lines + 1))
    expected = np.repeat(depths, len(examples)), np.tile(examples, len(depths))
    if not all(map(np.array_equal, (outcomes["depth"], outcomes["example"]), expected)):
        raise ValueError(f"{directory / FILE} does not belong to the results.json beside it, or is not whole")
    return outcomes, results["examples"]


def read_columns(file: Path, names: Sequence[str], examples: int) -> dict[str, list[str]]:
    """These columns of a CSV. Raises ValueError unless it has a row for each of `examples` puzzles."""
    rows = [fields for _, fields in csv_rows(file, names)]
    if len(rows) != examples:
        raise ValueError(f"{file} has {len(rows)} rows, but the split that was evaluated has {examples} puzzles")
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def read_numbers(file: Path, name: str, examples: int) -> np.ndarray:
    """A column of numbers. Raises ValueError for other values, and as `read_columns` does."""
    numbers = _numbers(read_columns(file, [name], examples)[name])
    if numbers is None:
        raise ValueError(f"{file}: not all values in its column {name} are numbers")
    return numbers


def _numbers(texts: Sequence[str]) -> np.ndarray | None:
    """The texts as numbers; None unless all are finite numbers."""
    try:
        numbers = np.array(texts, float)
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def parse_bins(text: str) -> list[float]:
    """Edges of bins from "0,1,10". Raises ValueError if they do not ascend."""
    edges = _numbers(text.split(","))
    if edges is None or (np.diff(edges) <= 0).any():
        raise ValueError(f"--bins takes ascending numbers like 0,1,10, not {text!r}")
    return edges.tolist()


def grouped(values: Sequence[str], edges: Sequence[float]) -> tuple[list[str], np.ndarray]:
    """The groups' names, and the group of every value. Groups are bins if all values are numbers, else equal texts."""
    numbers = _numbers(values)
    if numbers is not None:
        between = [f"[{low:g}, {high:g})" for low, high in zip(edges, edges[1:], strict=False)]
        names = [f"below {edges[0]:g}", *between, f"{edges[-1]:g} and more"]
        return names, np.searchsorted(edges, numbers, side="right")
    texts, group_N = np.unique(np.array(values), return_inverse=True)
    return texts.tolist(), group_N


def _share(right: float, of: float, puzzles: int) -> dict[str, float]:
    """A share with its binomial error over puzzles: trajectories of one puzzle are not independent."""
    share = right / of
    return {"share": share, "error": standard_error(share, puzzles), "puzzles": puzzles}


def accuracies(outcomes: Outcomes, rules: Sequence[str]) -> dict[str, dict[str, float]]:
    """Accuracy of single trajectories, and of rules that select one per puzzle."""
    known_N = ~np.isnan(outcomes["right"])
    right, trajectories = outcomes["right"][known_N].sum(), outcomes["trajectories"][known_N].sum()
    shares = {"exact_accuracy": _share(float(right), float(trajectories), int(known_N.sum()))} if trajectories else {}
    for name in rules:
        selected = outcomes[name][~np.isnan(outcomes[name])]
        if len(selected):
            shares[name] = _share(float(selected.sum()), len(selected), len(selected))
    return shares


def by_group(outcomes: Outcomes, names: Sequence[str], group_E: np.ndarray) -> dict[int, list[dict[str, Any]]]:
    """By depth, the accuracies of each group that has puzzles, and last of all puzzles."""
    rules = _RULES if (outcomes["trajectories"] > 1).any() else ()
    tables = {}
    for depth in np.unique(outcomes["depth"]):
        at_depth = {name: column[outcomes["depth"] == depth] for name, column in outcomes.items()}
        group_N = group_E[at_depth["example"].astype(int)]
        members = [(names[group], group_N == group) for group in np.unique(group_N)]
        tables[int(depth)] = [
            {"group": name, "puzzles": int(member_N.sum())}
            | accuracies({key: column[member_N] for key, column in at_depth.items()}, rules)
            for name, member_N in [*members, ("all", np.full(len(group_N), True))]
        ]
    return tables


def table(groups: list[dict[str, Any]]) -> str:
    """A line per group."""
    shown = [name for name in _HEADINGS if any(name in group for group in groups)]
    lines = [["group", "puzzles", *(_HEADINGS[name] for name in shown)]]
    for group in groups:
        shares = [group.get(name) for name in shown]
        cells = [f"{100 * s['share']:.2f}% ± {100 * s['error']:.2f}%" if s else "-" for s in shares]
        lines.append([group["group"], str(group["puzzles"]), *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines)


def run(directory: Path, file: Path, columns: Sequence[str], bins: str) -> None:
    """Writes and prints the tables. Raises ValueError for wrong input, before it writes anything."""
    edges = parse_bins(bins)
    if unfit := [column for column in columns if "/" in column]:
        raise ValueError(f"--column {unfit[0]} becomes part of a file's name, so it may have no /")
    outcomes, examples = read_outcomes(directory)
    values_by_column = read_columns(file, columns, examples)
    tables = {column: by_group(outcomes, *grouped(values, edges)) for column, values in values_by_column.items()}
    for column, by_depth in tables.items():
        write_whole(directory / f"by_{column}.json", json.dumps(by_depth, indent=1) + "\n")
    for column, by_depth in tables.items():
        for depth, groups in by_depth.items():
            print_lines(f"depth {depth}, by {column}\n{table(groups)}\n")


@command()
def main(words: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Tabulate an evaluation's accuracy by groups of puzzles.")
    parser.add_argument("directory", type=Path, metavar="EVAL_DIR", help="folder of an evaluation with per_puzzle=true")
    parser.add_argument("file", type=Path, metavar="CSV", help="its rows are the puzzles of the split, in order")
    parser.add_argument(
        "--column", action="append", dest="columns", metavar="NAME", help="group by this column (source and rating)"
    )
    parser.add_argument(
        "--bins", default="0,1,10,20,30,50", metavar="EDGES", help="edges of the bins for numbers (%(default)s)"
    )
    arguments = parser.parse_args(words)
    columns = list(dict.fromkeys(arguments.columns or ["source", "rating"]))
    run(arguments.directory, arguments.file, columns, arguments.bins)


if __name__ == "__main__":
    main(sys.argv[1:])
