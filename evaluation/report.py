"""What an evaluation leaves behind: a table on the screen, results.json and results.csv."""

import csv
import json
import math
import os
import time
from pathlib import Path
from typing import Any

# column heading -> metric
_COLUMNS = {
    "exact": "all/exact_accuracy",
    "token acc.": "all/accuracy",
    "residual": "all/residual",
    "any": "different_init/any_correct",
    "vote": "majority_vote/exact_accuracy",
    "best converged": "convergence_top_k/cumulative_exact_acc_top1",
    "top-k": "convergence_top_k/exact_accuracy",
    "q_halt acc.": "all/q_halt_accuracy",
}
_NOT_A_SHARE = {"all/residual"}


def _cell(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4f}" if name in _NOT_A_SHARE else f"{100 * value:.2f}%"


def table(metrics: dict[int, dict[str, float]]) -> str:
    """One line a depth."""
    shown = {head: name for head, name in _COLUMNS.items() if any(name in values for values in metrics.values())}
    lines = [["depth", *shown]]
    for depth, values in metrics.items():
        lines.append([str(depth), *(_cell(name, values.get(name)) for name in shown.values())])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    first = next(iter(metrics.values()))
    breadth = int(first.get("different_init/n", 1))
    return "\n".join([f"{int(first['puzzles'])} puzzles, breadth {breadth}", *rows])


def default_directory(checkpoint: Path) -> Path:
    """A folder of its own beside the checkpoint."""
    return checkpoint.parent / f"eval_{checkpoint.stem}_{time.strftime('%Y%m%d-%H%M%S')}"


def _json_number(value: float) -> float | None:
    return None if math.isnan(value) else value


def write(directory: Path, facts: dict[str, Any], metrics: dict[int, dict[str, float]]) -> None:
    """results.json (facts and metrics by depth) and results.csv (a row a depth, every setting a column)."""
    directory.mkdir(parents=True, exist_ok=True)
    by_depth = {str(d): {name: _json_number(v) for name, v in values.items()} for d, values in metrics.items()}
    _write_whole(directory / "results.json", json.dumps({**facts, "metrics": by_depth}, indent=1) + "\n")
    settings = {f"settings/{name}": value for name, value in facts["settings"].items() if name != "halt_max_steps"}
    settings |= {f"arch/{name}": value for name, value in facts["arch"].items()}
    names = sorted({name for values in metrics.values() for name in values})
    unfinished = directory / ".results.csv.unfinished"
    with open(unfinished, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["depth", *names, "step", *settings])
        for depth, values in metrics.items():
            numbers = [values.get(name, "") for name in names]
            writer.writerow([depth, *numbers, facts["step"], *settings.values()])
    os.replace(unfinished, directory / "results.csv")


def _write_whole(file: Path, text: str) -> None:
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.write_text(text)
    os.replace(unfinished, file)
