"""A picture for each task: accuracy against depth, ours and the paper's, and how accuracy grew in training."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.drawing import pictures
from results.recorded import Record, exact, selection, standard_error

COLOURS = (pictures.BLUE, pictures.VERMILLION, pictures.GREEN, pictures.PURPLE, pictures.ORANGE, pictures.SKY)


def draw(task: Record, recorded: Sequence[Record], file: Path) -> None:
    """Draws a task's runs into `file`, a PNG: bars are standard errors, crosses the paper's numbers."""
    with pictures.style():
        figure = pictures.new_figure(15, 5.5)
        by_depth, by_step = figure.subplots(1, 2)
        looks = iter([(colour, marker) for marker in pictures.MARKERS for colour in COLOURS])
        for run in recorded:
            on_the_way = [(step, 100 * share) for step, _, share in run["evaluations_on_the_way"]["rows"]]
            by_step.plot(*zip(*on_the_way, strict=True), marker=".", label=run["name"])
            for one in run["evaluations"]:
                settings = one["settings"]
                if one["dataset"] != task["data"] or settings["streaming"] or settings["split"] != "test":
                    continue
                colour, marker = next(looks)
                at = {int(depth): exact(one, depth) for depth in one["metrics"]}
                errors = [100 * standard_error(share, one["puzzles"]) for share in at.values()]
                noise = settings["noise_scale"]
                label = f"{run['name']}, {selection(one)}" + (f", noise {noise:g}" if noise is not None else "")
                values = [100 * share for share in at.values()]
                by_depth.errorbar(list(at), values, errors, color=colour, marker=marker, capsize=4, label=label)
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
