"""The pictures of a sample and of a run, as matplotlib figures. Nothing here runs a model.

Colours are Okabe and Ito's, which the colour-blind can tell apart. Lines also differ in their markers.
Shapes: N puzzles, B starts per puzzle, D iterations.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.drawing import curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evaluation.drawing.sample import Paths, Sample

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, YELLOW, GREY = (
    "#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9 #F0E442 #666666".split()
)
MARKERS = "osD^vPX"
STYLE: Any = {
    "font.size": 14,
    "axes.titlesize": 15,
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 2.2,
    "lines.markersize": 7,
    "legend.frameon": False,
    "savefig.dpi": 120,
}


def style() -> AbstractContextManager[None]:
    """The style while figures are made and saved: readable at half size."""
    from matplotlib import rc_context

    return rc_context(STYLE)


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure; width and height are in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _percent(axes: "Axes", label: str) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.set(ylabel=label, ylim=(-0.03, 1.03))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)


def _depths(axes: "Axes", depths: Sequence[int]) -> None:
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log", base=2)
    axes.set_xticks(depths, [str(depth) for depth in depths])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("depth (outer iterations)")
    axes.grid(alpha=0.3)


def log_scale(axes: "Axes", which: str) -> None:
    """Gives an axis a log scale with plain numbers as labels, few enough to stay apart."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axes.get_xlim() if which == "x" else axes.get_ylim())
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


def _trajectories(count: int) -> str:
    return f"{count} trajector{'y' if count == 1 else 'ies'}"


def accuracy_against_depth(sample: "Sample") -> "Figure":
    """Accuracy against depth, a line per breadth."""
    figure = new_figure(8.5, 5.5)
    axes = figure.subplots()
    depths = np.arange(1, sample.depth + 1)
    colours = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
    marked = [d - 1 for d in curves.powers(sample.depth)]
    for (breadth, accuracy_D), colour, marker in zip(curves.accuracies(sample).items(), colours, MARKERS, strict=False):
        label = f"best converged of {breadth} starts" if breadth > 1 else "one start"
        axes.plot(depths, accuracy_D, color=colour, marker=marker, markevery=marked, label=label)
    _depths(axes, curves.powers(sample.depth))
    _percent(axes, "puzzles solved (exact accuracy)")
    axes.set_title("Puzzles solved with more iterations and more starts")
    axes.legend()
    return figure


def heat_map(sample: "Sample") -> "Figure":
    """Accuracy by breadth (upwards) and depth (to the right)."""
    accuracies = curves.accuracies(sample)
    depths = curves.powers(sample.depth)
    table = np.array([accuracy_D for accuracy_D in accuracies.values()])[:, [d - 1 for d in depths]]
    figure = new_figure(1.3 * len(depths) + 2.6, 0.9 * len(accuracies) + 1.9)
    axes = figure.subplots()
    image = axes.imshow(table, origin="lower", aspect="auto", cmap="cividis", vmin=0, vmax=1)
    for row, column in np.ndindex(*table.shape):
        colour = "black" if table[row, column] > 0.55 else "white"
        axes.text(column, row, f"{100 * table[row, column]:.0f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(depths)), [str(d) for d in depths])
    axes.set_yticks(range(len(accuracies)), [str(b) for b in accuracies])
    axes.set(xlabel="depth (outer iterations)", ylabel="breadth (starts)")
    axes.set_title("Puzzles solved by the best converged start, in %")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, format=lambda value, _: f"{100 * value:.0f}%")
    return figure


def residual_against_iteration(sample: "Sample") -> "Figure":
    """Medians and the middle four fifths of the residual, for trajectories that end right and for the others."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(8.5, 5.5)
    axes = figure.subplots()
    iterations = np.arange(2, sample.depth + 1)
    looks = {"solved": (BLUE, "o", "-"), "unsolved": (VERMILLION, "s", "--")}
    for name, band in curves.residual_bands(sample).items():
        colour, marker, line = looks[name]
        label = f"{name} ({_trajectories(band.trajectories)})"
        axes.fill_between(iterations, band.low, band.high, color=colour, alpha=0.22, linewidth=0)
        axes.plot(iterations, band.median, color=colour, marker=marker, linestyle=line, label=label)
    axes.set(xlabel="outer iteration", ylabel="residual (logits' mean L2 change)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    log_scale(axes, "y")
    axes.grid(alpha=0.3)
    axes.set_title("How far the answer still moves\nline: median; band: 10% to 90% of the trajectories")
    axes.legend()
    return figure


def accuracy_against_residual(sample: "Sample") -> "Figure":
    """Accuracy by residual bin, and how many answers each bin holds."""
    bins = curves.by_residual(sample)
    figure = new_figure(8.5, 6.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    middles = np.sqrt(bins.edges[1:] * bins.edges[:-1])
    shown = ~np.isnan(bins.accuracy)
    above.errorbar(
        middles[shown], bins.accuracy[shown], bins.error[shown], color=BLUE, marker="o", capsize=4, capthick=2
    )
    _percent(above, "answers that are right")
    below.bar(bins.edges[:-1], bins.answers, np.diff(bins.edges), align="edge", color=SKY, edgecolor="white")
    below.set(ylabel="answers", xlabel="residual (logits' mean L2 change)")
    log_scale(below, "x")
    below.grid(alpha=0.3, axis="x")
    above.set_title("Right answers, by how far the answers still move\nbars: binomial error")
    return figure


def halting_steps(sample: "Sample") -> "Figure":
    """A histogram per group of difficulty, with a bar for trajectories that never halt."""
    groups = curves.halting_by_difficulty(sample)
    figure = new_figure(8.5, 1.7 + 2.1 * len(groups))
    panels = np.atleast_1d(figure.subplots(len(groups), 1, sharex=True, sharey=True))
    never = sample.depth + 1
    for axes, group, colour in zip(panels, groups, (SKY, BLUE, VERMILLION), strict=False):
        shares = np.bincount(group.halting, minlength=never + 1)[1:] / len(group.halting)
        places = [*range(1, never), never * 1.06 + 0.5]
        axes.bar(places, shares, 0.8 if never < 40 else 1, color=[colour] * (never - 1) + [GREY])
        between = f"{group.low:g}" if group.low == group.high else f"{group.low:g} to {group.high:g}"
        mean = np.minimum(group.halting, sample.depth).mean()
        title = f"{sample.difficulty}: {between}; mean {mean:.1f} ({_trajectories(len(group.halting))})"
        axes.set_title(title, fontsize=14)
        axes.grid(alpha=0.3, axis="y")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    ticks = [d for d in curves.powers(sample.depth) if d <= 2 or d >= never / 10]
    panels[-1].set_xticks([*ticks, places[-1]], [*map(str, ticks), "\nnever"])
    panels[-1].set_xlabel("iteration after which the model first says that it is right (q_halt > 0)")
    figure.supylabel("share of trajectories", fontsize=STYLE["font.size"])
    figure.suptitle("When the model would halt, by difficulty", fontsize=STYLE["axes.titlesize"])
    return figure


def _paths(axes: "Axes", paths: "Paths") -> None:
    for path_T2, right in zip(paths.points_BT2, paths.right_B, strict=True):
        colour = BLUE if right else VERMILLION
        axes.plot(*path_T2.T, color=colour, alpha=0.6, linewidth=1.5, marker=".", markersize=6)
        axes.plot(*path_T2[0], color=colour, marker="o", markersize=10, markerfacecolor="white", markeredgewidth=2)
    for path_T2, right in zip(paths.points_BT2, paths.right_B, strict=True):
        colour, marker = (BLUE, "*") if right else (VERMILLION, "X")
        axes.plot(*path_T2[-1], color=colour, marker=marker, markersize=17 if right else 12, markeredgecolor="black")
    first, second = (f"{100 * share:.0f}% of the variance" for share in paths.shares_2)
    axes.set(xlabel=f"first principal component ({first})", ylabel=f"second ({second})")
    right = int(paths.right_B.sum())
    axes.set_title(f"puzzle {paths.puzzle + 1}: {right} of {len(paths.right_B)} starts end at the right answer")
    axes.grid(alpha=0.3)


def paths_to_attractors(many: Sequence["Paths"]) -> "Figure":
    """The paths of the latent from several starts, a panel per puzzle."""
    from matplotlib.lines import Line2D

    figure = new_figure(7.2 * len(many) + 0.4, 6.8)
    for axes, paths in zip(np.atleast_1d(figure.subplots(1, len(many))), many, strict=True):
        _paths(axes, paths)
    looks: dict[str, Any] = {
        "random start": {"color": GREY, "marker": "o", "markerfacecolor": "white", "markeredgewidth": 2},
        "right": {"color": BLUE, "marker": "*", "markeredgecolor": "black"},
        "wrong": {"color": VERMILLION, "marker": "X", "markeredgecolor": "black"},
    }
    handles = [Line2D([], [], linestyle="", markersize=12, label=label, **look) for label, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.suptitle("Paths of the latent from several random starts", fontsize=STYLE["axes.titlesize"])
    return figure


def evaluations(results: Mapping[str, dict[str, Any]]) -> "Figure":
    """Exact accuracy and residual against depth from results.json by name, a line per evaluation.

    The legend has their breadths, and their names too if two have one breadth.
    """
    labels = [f"breadth {result['settings']['different_init']}" for result in results.values()]
    if len(set(labels)) < len(labels):
        labels = [f"{name}: {label}" for name, label in zip(results, labels, strict=True)]
    figure = new_figure(13, 5.2)
    left, right = figure.subplots(1, 2)
    colours = cycle((BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY))
    for result, label, colour, marker in zip(results.values(), labels, colours, cycle(MARKERS), strict=False):
        by_depth = {int(depth): values for depth, values in result["metrics"].items()}
        depths = sorted(by_depth)
        several = result["settings"]["different_init"] > 1
        chosen = "convergence_top_k/cumulative_exact_acc_top1" if several else "all/exact_accuracy"
        chosen = chosen if chosen in by_depth[depths[0]] else "all/exact_accuracy"
        look = {"color": colour, "marker": marker}
        which = ", best converged" if "top1" in chosen else ""
        left.plot(depths, [by_depth[depth].get(chosen) for depth in depths], **look, label=label + which)
        settled = [depth for depth in depths if by_depth[depth].get("all/residual") is not None]
        right.plot(settled, [by_depth[depth]["all/residual"] for depth in settled], **look, label=label)
    for axes in (left, right):
        _depths(axes, sorted({int(depth) for result in results.values() for depth in result["metrics"]}))
    puzzles = sorted({int(next(iter(result["metrics"].values()))["puzzles"]) for result in results.values()})
    _percent(left, "exact accuracy")
    of = {"test": "unseen ", "train": "training "}
    splits = {of.get(result["settings"].get("split"), "") for result in results.values()}
    of_each = " or ".join(map(str, puzzles))
    left.set_title(f"Solved, of {of_each} {splits.pop() if len(splits) == 1 else ''}puzzle{'s' * (puzzles != [1])}")
    left.legend()
    if any(len(line.get_xdata()) for line in right.lines):
        log_scale(right, "y")
    else:  # a first iteration has no residual
        right.set_yticks([])
    right.set(title="How far the answer still moves", ylabel="residual (logits' mean L2 change)")
    right.legend()
    return figure


_PANELS = (
    ("Loss", {"train/lm_loss": "training"}),
    ("Puzzles solved", {"train/exact_accuracy": "training, as they halt", "eval/all/exact_accuracy": "unseen"}),
    ("Iterations until halting", {"train/steps": "training"}),
)


def training_curves(series: curves.Series) -> "Figure":
    """Loss, accuracy and halting against steps: values are thin, their means thick."""
    figure = new_figure(15, 4.8)
    looks = {"training": (BLUE, ""), "training, as they halt": (BLUE, ""), "unseen": (VERMILLION, "s")}
    for axes, (title, lines) in zip(figure.subplots(1, 3), _PANELS, strict=True):
        for name, label in lines.items():
            if name in series:
                colour, marker = looks[label]
                axes.plot(*series[name], color=colour, alpha=0.25, linewidth=1)
                axes.plot(*curves.smooth(*series[name]), color=colour, marker=marker, label=label)
        axes.set(title=title if axes.lines else f"{title}: no line yet", xlabel="training steps")
        axes.grid(alpha=0.3)
        if len(lines) > 1 and axes.lines:
            axes.legend()
    left, middle, right = figure.axes
    left.set(ylabel="token loss (nats)", yscale="log")
    log_scale(left, "y")
    _percent(middle, "exact accuracy")
    right.set_ylabel("outer iterations")
    return figure
