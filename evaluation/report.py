"""What an evaluation leaves behind: a table on the screen, results.json and results.csv, and a picture of them.

python -m evaluation.report EVAL_DIR [EVAL_DIR ...] [--output accuracy_vs_depth.png]
"""

import argparse
import csv
import json
import math
import os
import sys
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


def table(metrics: dict[int, dict[str, float]]) -> str:
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
    settings |= {name: facts[name] for name in ("checkpoint", "step", "weights", "dataset", "processes", "device")}
    settings |= {f"versions/{name}": value for name, value in facts["versions"].items()}
    settings |= {f"arch/{name}": value for name, value in facts["arch"].items()}
    names = sorted({name for values in metrics.values() for name in values})
    unfinished = directory / ".results.csv.unfinished"
    with open(unfinished, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["depth", *names, *settings])
        for depth, values in metrics.items():
            numbers = [_json_number(values.get(name, math.nan)) for name in names]
            writer.writerow([depth, *numbers, *settings.values()])
    os.replace(unfinished, directory / "results.csv")


def _write_whole(file: Path, text: str) -> None:
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.write_text(text)
    os.replace(unfinished, file)


def read(directory: Path) -> dict[str, Any]:
    """The results.json of an evaluation; its metrics by depth.

    Raises:
        ValueError: there is none.
    """
    file = directory / "results.json"
    if not file.is_file():
        raise ValueError(f"{file} does not exist: evaluate into this folder first (eval_dir={directory})")
    results: dict[str, Any] = json.loads(file.read_text())
    return results


def plot(results: list[dict[str, Any]], file: Path) -> None:
    """Draws exact accuracy and residual against depth, a line an evaluation, into a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter, NullLocator, PercentFormatter

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]  # Okabe-Ito: safe for the colour-blind
    for result, colour, marker in zip(results, colours, "osD^vP", strict=False):
        by_depth = {int(depth): values for depth, values in result["metrics"].items()}
        depths = sorted(by_depth)
        breadth = result["settings"]["different_init"]
        chosen = "convergence_top_k/cumulative_exact_acc_top1" if breadth > 1 else "all/exact_accuracy"
        chosen = chosen if chosen in by_depth[depths[0]] else "all/exact_accuracy"
        label = f"breadth {breadth}" + (", best converged" if "top1" in chosen else "")
        style = {"color": colour, "marker": marker, "label": label}
        left.plot(depths, [by_depth[depth][chosen] for depth in depths], **style)
        settled = [depth for depth in depths if by_depth[depth].get("all/residual") is not None]
        right.plot(settled, [by_depth[depth]["all/residual"] for depth in settled], **style)
    puzzles = int(next(iter(results[0]["metrics"].values()))["puzzles"])
    left.set(title=f"Solved, of {puzzles} unseen puzzles", ylabel="exact accuracy", ylim=(-0.02, 1.02))
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    right.set(title="How far the answer still moves", ylabel="residual (change of logits)", yscale="log")
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    right.yaxis.set_minor_formatter(NullFormatter())
    all_depths = sorted({int(depth) for result in results for depth in result["metrics"]})
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xlabel("depth (outer iterations)")
        axes.set_xticks(all_depths, [str(depth) for depth in all_depths])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.3)
    left.legend(loc="lower right")
    right.legend()
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


def main() -> None:
    """The command line: draws the named evaluations."""
    parser = argparse.ArgumentParser(description="Draw accuracy and residual against depth.")
    parser.add_argument("evaluations", nargs="+", type=Path, help="folders that evaluate.py wrote")
    parser.add_argument("--output", type=Path, default=Path("accuracy_vs_depth.png"))
    arguments = parser.parse_args()
    try:
        plot([read(directory) for directory in arguments.evaluations], arguments.output)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
