"""What an evaluation leaves behind: a table on the screen, results.json and results.csv."""

import csv
import io
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from config.fields import Count, Positive
from config.json_file import read_json, typed
from runtime.files import fit_for_json, new_directory, write_whole

RESULTS = "results.json"
# column heading -> metric; what observers add comes between the two
_FIRST_COLUMN = {"exact": "all/exact_accuracy"}
_COLUMNS = {
    "token acc.": "all/accuracy",
    "residual": "all/residual",
    "any": "different_init/any_correct",
    "vote": "majority_vote/exact_accuracy",
    "best converged": "convergence_top_k/cumulative_exact_acc_top1",
    "top-k": "convergence_top_k/exact_accuracy",
    "q_halt acc.": "all/q_halt_accuracy",
}
# for a streaming evaluation, in which each trajectory makes its own number of iterations
_STREAMING_COLUMNS = {
    "iterations": "all/steps",
    "p95": "all/steps_p95",
    "NFE": "nfe/mean",
    "NFE p95": "nfe/p95",
    "forced": "all/forced",
}
_NUMBERS = {"all/residual": ".4f", "all/steps": ".1f", "all/steps_p95": ".0f", "nfe/mean": ".1f", "nfe/p95": ".0f"}


class _Read(BaseModel):
    """A part of a file that others may have written. It may hold more than is read."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Settings(_Read):
    halt_max_steps: list[Positive] | None = None
    different_init: Positive
    split: str = "test"
    recipe: str | None = None
    note: str | None = None


class _Metrics(_Read):
    __pydantic_extra__: dict[str, FiniteFloat | None]
    puzzles: Annotated[float, Field(ge=1, lt=2**31)]
    exact: Annotated[FiniteFloat | None, Field(alias="all/exact_accuracy")]  # None where no answer is known


class _Evaluated(_Read):
    checkpoint: str
    step: Count
    settings: _Settings
    examples: Positive | None = None
    dataset: str = ""
    arch: dict[str, Any] = {}


class Facts(_Evaluated):
    """What an evaluation says of itself, beside its metrics."""

    weights: str
    dataset: str
    device: str
    arch: dict[str, Any]
    versions: dict[str, str]


class _Results(_Evaluated):
    metrics: dict[Annotated[str, StringConstraints(pattern=r"^[1-9]\d{0,8}$")], _Metrics]


def _cell(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return format(value, _NUMBERS[name]) if name in _NUMBERS else f"{100 * value:.2f}%"


def _lines_below(values: dict[str, float]) -> list[str]:
    """Selection rules and q_halt at the largest depth."""
    prefix, suffix = "selection/", "/exact_accuracy"
    rules = [name.removeprefix(prefix).removesuffix(suffix) for name in values if name.startswith(prefix)]
    selected = [f"{rule} {_cell('', values[prefix + rule + suffix])}" for rule in rules]
    names = {"precision": "precision", "recall": "recall", "calibration error": "ece"}
    q_halt = [
        f"{words} {_cell('', values[key])}" for words, name in names.items() if (key := f"all/q_halt_{name}") in values
    ]
    lines = {"exact, by selection": selected, "q_halt": q_halt}
    return [f"{head}: {', '.join(cells)}" for head, cells in lines.items() if cells]


def results_table(
    metrics: dict[int, dict[str, float]],
    observed: Mapping[str, str],
    recipe: str | None = None,
    note: str | None = None,
) -> str:
    """A line for each depth, then selection rules and calibration at the largest.

    `observed` holds the columns of observers: metrics by heading. A column without a value at any depth is left out.
    The recipe's name stands above the table, and its note below.
    """
    columns = _FIRST_COLUMN | dict(observed) | _COLUMNS
    if any("all/forced" in values for values in metrics.values()):
        columns |= _STREAMING_COLUMNS
    shown = {head: name for head, name in columns.items() if any(name in values for values in metrics.values())}
    lines = [["depth", *shown]]
    for depth, values in metrics.items():
        lines.append([str(depth), *(_cell(name, values.get(name)) for name in shown.values())])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    first = next(iter(metrics.values()))
    breadth = int(first.get("different_init/n", 1))
    title = f"{int(first['puzzles'])} puzzles, breadth {breadth}" + (f", recipe {recipe}" if recipe else "")
    return "\n".join([title, *rows, *_lines_below(list(metrics.values())[-1]), *([note] if note else [])])


def new_evaluation_directory(checkpoint: Path) -> Path:
    """Makes a new folder beside the checkpoint. Raises ValueError if nothing can be written there."""
    try:
        return new_directory(checkpoint.parent / f"eval_{checkpoint.stem}_{time.strftime('%Y%m%d-%H%M%S')}")
    except OSError as error:
        raise ValueError(
            f"the results cannot be written beside the checkpoint, into {checkpoint.parent} ({error.strerror}): "
            "give eval_dir=FOLDER"
        ) from None


def write_results(directory: Path, facts: dict[str, Any], metrics: dict[int, dict[str, float]]) -> None:
    """Writes results.json (facts, and metrics by depth) and results.csv (a row per depth, a column per setting)."""
    by_depth = {str(depth): fit_for_json(values) for depth, values in metrics.items()}
    write_whole(directory / RESULTS, json.dumps({**facts, "metrics": by_depth}, indent=1) + "\n")
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
    """The results.json of an evaluation. Its `metrics` are by depth.

    Raises:
        ValueError: the file is missing, or holds something else.
    """
    file = directory / RESULTS
    if not file.is_file():
        raise ValueError(f"{file} does not exist: give the folder that an evaluation names in its last line")
    results = read_json(file, dict)
    if not results.get("metrics"):
        raise ValueError(f"{file} holds no results of an evaluation")
    depths = typed(results, _Results, str(file)).settings.halt_max_steps
    if depths is not None and {str(depth) for depth in depths} != results["metrics"].keys():
        raise ValueError(f"{file}: settings.halt_max_steps is {depths}, but metrics are of {list(results['metrics'])}")
    return results
