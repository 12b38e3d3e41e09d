"""What an evaluation leaves behind: a table on the screen, results.json and results.csv."""

import csv
import io
import json
import math
import time
from pathlib import Path
from typing import Any

from runtime.files import fit_for_json, new_directory, write_whole

# column heading -> metric
_COLUMNS = {
    "exact": "all/exact_accuracy",
    "shortest path": "maze/shortest_path",
    "token acc.": "all/accuracy",
    "residual": "all/residual",
    "any": "different_init/any_correct",
    "vote": "majority_vote/exact_accuracy",
    "best converged": "convergence_top_k/cumulative_exact_acc_top1",
    "top-k": "convergence_top_k/exact_accuracy",
    "ARC pass@1": "ARC/pass@1",
    "ARC pass@2": "ARC/pass@2",
    "q_halt acc.": "all/q_halt_accuracy",
}
# of a streaming evaluation, in which a trajectory's iterations are its own
_STREAMING_COLUMNS = {
    "iterations": "all/steps",
    "p95": "all/steps_p95",
    "NFE": "nfe/mean",
    "NFE p95": "nfe/p95",
    "forced": "all/forced",
}
_NUMBERS = {"all/residual": ".4f", "all/steps": ".1f", "all/steps_p95": ".0f", "nfe/mean": ".1f", "nfe/p95": ".0f"}


def _cell(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return format(value, _NUMBERS[name]) if name in _NUMBERS else f"{100 * value:.2f}%"


def _lines_below(values: dict[str, float]) -> list[str]:
    """What the deepest line of the table says of selection rules and of q_halt."""
    prefix, suffix = "selection/", "/exact_accuracy"
    rules = [name.removeprefix(prefix).removesuffix(suffix) for name in values if name.startswith(prefix)]
    chosen = [f"{rule} {_cell('', values[prefix + rule + suffix])}" for rule in rules]
    said = {"precision": "precision", "recall": "recall", "calibration error": "ece"}
    q_halt = [f"{words} {_cell('', values[f'all/q_halt_{name}'])}" for words, name in said.items()]
    return ([f"exact, by selection: {', '.join(chosen)}"] if chosen else []) + [f"q_halt: {', '.join(q_halt)}"]


def results_table(metrics: dict[int, dict[str, float]]) -> str:
    """One line a depth, then selection and calibration at the last."""
    columns = _COLUMNS | (_STREAMING_COLUMNS if any("all/forced" in values for values in metrics.values()) else {})
    shown = {head: name for head, name in columns.items() if any(name in values for values in metrics.values())}
    lines = [["depth", *shown]]
    for depth, values in metrics.items():
        lines.append([str(depth), *(_cell(name, values.get(name)) for name in shown.values())])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    first = next(iter(metrics.values()))
    breadth = int(first.get("different_init/n", 1))
    return "\n".join(
        [f"{int(first['puzzles'])} puzzles, breadth {breadth}", *rows, *_lines_below(list(metrics.values())[-1])]
    )


def new_evaluation_directory(checkpoint: Path) -> Path:
    """A folder of its own beside the checkpoint, made new."""
    return new_directory(checkpoint.parent / f"eval_{checkpoint.stem}_{time.strftime('%Y%m%d-%H%M%S')}")


def write_results(directory: Path, facts: dict[str, Any], metrics: dict[int, dict[str, float]]) -> None:
    """results.json (facts and metrics by depth) and results.csv (a row a depth, every setting a column)."""
    directory.mkdir(parents=True, exist_ok=True)
    by_depth = {str(d): fit_for_json(values) for d, values in metrics.items()}
    write_whole(directory / "results.json", json.dumps({**facts, "metrics": by_depth}, indent=1) + "\n")
    settings = {f"settings/{name}": value for name, value in facts["settings"].items() if name != "halt_max_steps"}
    settings |= {name: facts[name] for name in ("checkpoint", "step", "weights", "dataset", "processes", "device")}
    settings |= {f"versions/{name}": value for name, value in facts["versions"].items()}
    settings |= {f"arch/{name}": value for name, value in facts["arch"].items()}
    names = sorted({name for values in metrics.values() for name in values})
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["depth", *names, *settings])
    for depth, values in by_depth.items():
        writer.writerow([depth, *(values.get(name) for name in names), *settings.values()])
    write_whole(directory / "results.csv", table.getvalue())


def read_results(directory: Path) -> dict[str, Any]:
    """The results.json of an evaluation; its metrics by depth.

    Raises:
        ValueError: there is none, or something else is in it.
    """
    file = directory / "results.json"
    if not file.is_file():
        raise ValueError(f"{file} does not exist: evaluate into this folder first (eval_dir={directory})")
    try:
        results: dict[str, Any] = json.loads(file.read_text())
    except ValueError:
        results = {}
    if not isinstance(results, dict) or not results.get("metrics"):
        raise ValueError(f"{file} holds no results of an evaluation")
    return results
