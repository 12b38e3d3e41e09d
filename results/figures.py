"""A picture for each task: accuracy against depth, ours and the paper's, and how accuracy grew in training."""

from collections.abc import Sequence
from pathlib import Path

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


def _colour(pair: int) -> str:
    return COLOURS[pair % len(COLOURS)]


def draw(task: Record, recorded: Sequence[Record], file: Path) -> None:
    """Draws a task's runs into `file`, a PNG: bars are standard errors, crosses the paper's numbers.

    A colour stands for a run and its number of starts, a marker for the noise of an evaluation. Labels say the number
    of puzzles where it was not the largest.
    """
    with pictures.style():
        figure = pictures.new_figure(15, 7)
        by_depth, by_step = figure.subplots(1, 2)
        lines = _lines(task, recorded)
        most = max((one["puzzles"] for _, one in lines), default=0)
        noises = sorted({one["settings"]["noise_scale"] for _, one in lines} - {None})
        pairs = list(dict.fromkeys((run["name"], selection(one)) for run, one in lines))
        for run, one in lines:
            noise, pair = one["settings"]["noise_scale"], pairs.index((run["name"], selection(one)))
            at = {int(depth): exact(one, depth) for depth in one["metrics"]}
            errors = [100 * standard_error(share, one["puzzles"]) for share in at.values()]
            label = (f"{run['name']}, " if len(recorded) > 1 else "") + selection(one)
            label += f", noise {noise:g}" if len(noises) > 1 and noise is not None else ""
            label += f" ({one['puzzles']})" if one["puzzles"] < most else ""
            kind = 0 if noise is None else noises.index(noise)
            marker = pictures.MARKERS[(kind + pair // len(COLOURS)) % len(pictures.MARKERS)]
            values = [100 * share for share in at.values()]
            by_depth.errorbar(list(at), values, errors, color=_colour(pair), marker=marker, capsize=4, label=label)
        for run in recorded:
            on_the_way = [(step, 100 * share) for step, _, share in run["evaluations_on_the_way"]["rows"]]
            first = next((number for number, (name, _) in enumerate(pairs) if name == run["name"]), len(pairs))
            by_step.plot(*zip(*on_the_way, strict=True), marker=".", color=_colour(first), label=run["name"])
        configs = {run["config"]["run_name"] for run in recorded}
        shown = [one for one in task["numbers"] if one["config"] in configs and not one.get("streaming")]
        for number in shown:
            depth, breadth, value = number.get("depth", 1), number.get("breadth", 1), number["exact"]
            highest = value == max(one["exact"] for one in shown if one.get("depth", 1) == depth)
            legend = {"label": "paper: accuracy (breadth)"} if number is shown[0] else {}
            by_depth.plot([depth], [value], "kx", markersize=9, markeredgewidth=2.5, zorder=5, **legend)
            where = {"xytext": (8, 3 if highest else -8), "textcoords": "offset points", "fontsize": 11}
            by_depth.annotate(f"{value:g} ({breadth})", (depth, value), **where)
        by_depth.set_xscale("log", base=2)
        by_depth.set_xticks([4**power for power in range(6)], [str(4**power) for power in range(6)])
        by_depth.set_xlim(0.8, 3 * by_depth.dataLim.x1)  # room for the labels of the paper's numbers
        by_depth.set(xlabel="depth (outer iterations)", ylabel="exact accuracy, %", title="trained")
        by_step.set(xlabel="training step", ylabel="exact accuracy, %", title="while training")
        figure.suptitle(f"{task['title']}; ours on {task['ours_are']}")
        for axes in (by_depth, by_step):
            axes.grid(alpha=0.3)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(fontsize=11, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
        figure.savefig(file)
