"""A picture for each task: accuracy against depth, ours and the paper's, and how accuracy grew in training."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from evaluation.drawing import pictures
from results.recorded import Record, exact, selection, standard_error

COLOURS = (pictures.BLUE, pictures.VERMILLION, pictures.GREEN, pictures.PURPLE, pictures.ORANGE, pictures.SKY)


def _lines(task: Record, recorded: Sequence[Record]) -> list[tuple[Record, Record]]:
    """(run, evaluation) for each line against depth, those of fewer starts and of less noise first."""
    found = [
        (run, one)
        for run in recorded
        for one in run["evaluations"]
        if one["dataset"] == task["data"] and not one["settings"]["streaming"] and one["settings"]["split"] == "test"
    ]
    order = ("different_init", "noise_scale")
    return sorted(found, key=lambda line: [line[1]["settings"][name] or 0 for name in order])


def _who(line: tuple[Record, Record]) -> tuple[str, str]:
    return line[0]["name"], selection(line[1])


def draw(task: Record, recorded: Sequence[Record], file: Path) -> None:
    """Draws a task's runs into `file`, a PNG: bars are standard errors, crosses the paper's numbers.

    A colour stands for a run and its number of starts, a marker for the noise of an evaluation.
    """
    with pictures.style():
        figure = pictures.new_figure(15, 5.5)
        by_depth, by_step = figure.subplots(1, 2)
        for run in recorded:
            on_the_way = [(step, 100 * share) for step, _, share in run["evaluations_on_the_way"]["rows"]]
            by_step.plot(*zip(*on_the_way, strict=True), marker=".", label=run["name"])
        lines = _lines(task, recorded)
        noise_of = [one["settings"]["noise_scale"] or 0 for _, one in lines]
        colours = dict(zip(dict.fromkeys(map(_who, lines)), cycle(COLOURS), strict=False))
        markers = dict(zip(sorted(set(noise_of)), cycle(pictures.MARKERS), strict=False))
        for (run, one), noise in zip(lines, noise_of, strict=True):
            at = {int(depth): exact(one, depth) for depth in one["metrics"]}
            errors = [100 * standard_error(share, one["puzzles"]) for share in at.values()]
            label = ", ".join(_who((run, one))) + (
                f", noise {noise:g}" if "noise_scale" in run["config"]["arch"] else ""
            )
            look: Any = {"color": colours[_who((run, one))], "marker": markers[noise], "capsize": 4, "label": label}
            by_depth.errorbar(list(at), [100 * share for share in at.values()], errors, **look)
        configs = {run["config"]["run_name"] for run in recorded}
        shown = [one for one in task["numbers"] if one["config"] in configs and not one.get("streaming")]
        for number in shown:
            depth, breadth, value = number.get("depth", 1), number.get("breadth", 1), number["exact"]
            highest = value == max(one["exact"] for one in shown if one.get("depth", 1) == depth)
            legend = {"label": "paper: accuracy (breadth)"} if number is shown[0] else {}
            by_depth.plot([depth], [value], "kx", markersize=9, markeredgewidth=2.5, **legend)
            where = {"xytext": (8, 3 if highest else -8), "textcoords": "offset points", "fontsize": 11}
            by_depth.annotate(f"{value:g} ({breadth})", (depth, value), **where)
        by_depth.set_xscale("log", base=2)
        by_depth.set_xticks([4**power for power in range(6)], [str(4**power) for power in range(6)])
        by_depth.set_xlim(0.8, 3000)
        by_depth.set(xlabel="depth (outer iterations)", ylabel="exact accuracy, %", title="trained")
        by_step.set(xlabel="training step", ylabel="exact accuracy, %", title="while training")
        figure.suptitle(f"{task['title']}; ours on {task['ours_are']}")
        for axes in (by_depth, by_step):
            axes.grid(alpha=0.3)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(fontsize=12)
        figure.savefig(file)
