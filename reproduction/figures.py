"""A picture for each task: accuracy against depth, ours and the paper's, and how accuracy grew in training."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.patheffects import withStroke

from evaluation.drawing import pictures
from reproduction.blocks import of_task
from reproduction.recorded import STARTS_STD, Record, exact, selection, spent_before, standard_error

COLOURS = (
    *(pictures.BLUE, pictures.VERMILLION, pictures.GREEN, pictures.PURPLE, pictures.ORANGE, pictures.SKY),
    pictures.GREY,
)


def _lines(task: Record, recorded: Sequence[Record]) -> list[tuple[Record, Record]]:
    """(run, evaluation) for each line against depth, those of fewer starts first.

    Of a run's evaluations with so many starts: with the noise it was trained with, starts of the usual std, on most
    puzzles, at most depths.
    """
    found: dict[tuple[int, str], tuple[Record, Record]] = {}
    for run in recorded:
        fitting = [
            one
            for one in run["evaluations"]
            if one["dataset"] == task["data"]
            and not one["settings"]["streaming"]
            and one["settings"]["split"] == "test"
            and one["settings"]["noise_scale"] == run["config"]["arch"].get("noise_scale")
            and one["settings"]["different_init_reset_std"] == STARTS_STD
        ]
        for one in sorted(fitting, key=lambda one: (one["puzzles"], len(one["metrics"]))):
            found[one["settings"]["different_init"], run["name"]] = (run, one)
    return [found[key] for key in sorted(found)]


def _label(run: Record, one: Record, most: int) -> str:
    label = f"{run['name']}, {selection(one)}" + (", float8" if "kernels" in one["settings"] else "")
    return label + (f" ({one['puzzles']})" if one["puzzles"] < most else "")


def _on_the_way(runs: Sequence[Record], recorded: Sequence[Record]) -> list[tuple[str, list[float], list[float]]]:
    """(name, steps, percent) of those `runs` that are not only the beginning of another one.

    Steps are counted from the beginning of the run from whose weights one began.
    """
    before = {run["name"]: spent_before(run, recorded, "steps") for run in runs}
    rows = {run["name"]: run["evaluations_on_the_way"]["rows"] for run in runs}
    whole = {
        name: mine
        for name, mine in rows.items()
        if not any(other[: len(mine)] == mine for its, other in rows.items() if its != name and len(other) > len(mine))
    }
    return [
        (name, [before[name] + row[0] for row in mine], [100 * row[2] for row in mine]) for name, mine in whole.items()
    ]


def draw(task: Record, recorded: Sequence[Record], file: Path) -> None:
    """Draws a task's runs of those recorded into `file`, a PNG: bars are standard errors, crosses the paper's numbers.

    Each run has its colour, a marker stands for a number of starts, and lines of several starts are dashed. Labels say
    the number of puzzles where it was not the largest. The inset is what is near 100%.
    """
    runs = of_task(task, recorded)
    lines = _lines(task, runs)
    most = max((one["puzzles"] for _, one in lines), default=0)
    ways = list(dict.fromkeys(selection(one) for _, one in lines))
    names = [run["name"] for run in runs]
    with pictures.style():
        figure = pictures.new_figure(15, 7)
        by_depth, by_step = figure.subplots(1, 2)
        near_100 = by_depth.inset_axes((0.58, 0.08, 0.4, 0.66), ylim=(94, 100.4), xlim=(7, 80), xscale="log")
        near_100.set_xticks([8, 16, 32, 64], ["8", "16", "32", "64"])
        near_100.set_xticks([], minor=True)
        near_100.grid(alpha=0.3)
        for run, one in lines:
            way = ways.index(selection(one))
            at = {int(depth): exact(one, depth) for depth in one["metrics"]}
            for axes in (by_depth, near_100):
                axes.errorbar(
                    list(at),
                    [100 * share for share in at.values()],
                    [100 * standard_error(share, one["puzzles"]) for share in at.values()],
                    color=COLOURS[names.index(run["name"]) % len(COLOURS)],
                    marker=pictures.MARKERS[way % len(pictures.MARKERS)],
                    linestyle="--" if way else "-",
                    capsize=4,
                    label=_label(run, one, most),
                )
        for name, steps, percent in _on_the_way(runs, recorded):
            look = {"marker": ".", "color": COLOURS[names.index(name) % len(COLOURS)], "label": name}
            by_step.plot([step / 1000 for step in steps], percent, **look)
        configs = {run["config"]["run_name"] for run in runs}
        shown = [one for one in task["numbers"] if one["config"] in configs and not one.get("streaming")]
        for number in shown:
            depth, breadth, value = number.get("depth", 1), number.get("breadth", 1), number["exact"]
            highest = value == max(one["exact"] for one in shown if one.get("depth", 1) == depth)
            legend = {"label": "paper: model, accuracy (breadth)"} if number is shown[0] else {}
            by_depth.plot([depth], [value], "kx", markersize=9, markeredgewidth=2.5, zorder=5, **legend)
            where = {"xytext": (8, 3 if highest else -8), "textcoords": "offset points", "fontsize": 11}
            said = f"{number['model'].split(',')[0]} {value:g} ({breadth})"
            outline = [withStroke(linewidth=2.5, foreground="white")]
            by_depth.annotate(said, (depth, value), zorder=6, path_effects=outline, **where)
        by_depth.set_xscale("log", base=2)
        by_depth.set_xticks([4**power for power in range(6)], [str(4**power) for power in range(6)])
        by_depth.set_xlim(0.8, 3 * by_depth.dataLim.x1)  # room for the labels of the paper's numbers
        by_depth.set(xlabel="depth (outer iterations)", ylabel="exact accuracy, %", title="trained")
        by_step.set(xlabel="training step, thousands", ylabel="exact accuracy, %", title="while training")
        figure.suptitle(f"{task['title']}; ours on {task['ours_are']}")
        for axes in (by_depth, by_step):
            axes.grid(alpha=0.3)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(fontsize=11, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
        figure.savefig(file)
