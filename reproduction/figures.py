"""The figures of results/: accuracy by depth, by breadth and while training, each in a picture of its own.

Every line has its label at its end, instead of a legend. A run has the same colour in all figures of its task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evaluation.drawing import pictures
from evaluation.metrics import standard_error
from reproduction.accuracy import bound, exact
from reproduction.paper import Number, Paper, Setting, Task
from reproduction.picture import Picture
from reproduction.records import Evaluation, Record, chain, from_weights
from reproduction.table_text import widest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (pictures.BLUE, pictures.VERMILLION, pictures.GREEN, pictures.PURPLE, pictures.ORANGE, pictures.SKY)
MOST_LINES = 5
DEPTH = 64
"""The last depth of the figures by depth, and the depth of those by breadth."""
BREADTHS = (1, 8, 32, 128)
GAP = 0.068
"""The least distance of two labels, as a share of the axes' height."""


class Line(NamedTuple):
    """Accuracies in percent, with their errors, if these are known. A line of equal place has an equal look."""

    label: str
    place: int
    ours: bool
    x: list[float]
    percent: list[float]
    errors: list[float]


class Cross(NamedTuple):
    """A number of the paper, in percent."""

    label: str
    x: float
    percent: float


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """The heights, moved so that any two are at least `gap` apart and none is above 0.97, in the same order."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    moved = list(heights)
    for lower, upper in pairwise(order):
        moved[upper] = max(moved[upper], moved[lower] + gap)
    ceiling = 0.97
    for i in reversed(order):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    return moved


@dataclass(frozen=True)
class Drawing(Picture):
    """Lines. `ticks` are those of a logarithmic x axis; without them it is linear.

    Bars are standard errors, or bounds of 95% confidence if all or none are solved.
    """

    title: str
    x_label: str
    ticks: list[int]
    lines: list[Line]
    crosses: list[Cross] = field(default_factory=list)

    def figure(self) -> "Figure":
        from matplotlib.figure import Figure

        assert len(self.lines) <= MOST_LINES
        figure = Figure(figsize=(10, 5.2))
        axes = figure.add_axes((0.09, 0.14, 0.6, 0.76))  # the labels stand to the right of it
        if self.ticks:
            axes.set_xscale("log", base=2)
            axes.set_xticks(self.ticks, [str(tick) for tick in self.ticks])
        axes.set(xlabel=self.x_label, ylabel="exact accuracy, %")
        axes.set_title(self.title, loc="left")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
        for line in self.lines:
            room = line.percent, [100 - percent for percent in line.percent]  # a bar ends at 0 and at 100
            axes.errorbar(
                line.x,
                line.percent,
                np.minimum(line.errors, room) if line.errors else None,
                color=COLOURS[line.place % len(COLOURS)],
                marker=pictures.MARKERS[line.place % len(pictures.MARKERS)],
                markevery=-(-len(line.x) // 20),
                linestyle="-" if line.ours else "--",
                capsize=3,
            )
        for cross in self.crosses:
            axes.plot([cross.x], [cross.percent], "kx", markersize=9, markeredgewidth=2, zorder=5)
        self._label(axes)
        return figure

    def _label(self, axes: "Axes") -> None:
        """Writes every line's label and last value, and every number of the paper, to the right of the axes."""
        ends = [(f"{line.label}: {line.percent[-1]:.1f}", line.x[-1], line.percent[-1]) for line in self.lines]
        ends += [(f"× {cross.label}", cross.x, cross.percent) for cross in self.crosses]
        colours = [COLOURS[line.place % len(COLOURS)] for line in self.lines] + ["black"] * len(self.crosses)
        axes.autoscale_view()
        to_axes = axes.transData + axes.transAxes.inverted()
        points = [to_axes.transform((x, percent)).tolist() for _, x, percent in ends]
        heights = apart([height for _, height in points], GAP)
        for (text, _, _), colour, point, height in zip(ends, colours, points, heights, strict=True):
            axes.text(1.05, height, text, color=colour, va="center", transform=axes.transAxes)
            if colour != "black":
                x, y = zip(point, (1.04, height), strict=True)
                axes.plot(x, y, color=colour, linewidth=1, alpha=0.5, transform=axes.transAxes, clip_on=False, zorder=1)


class Shown(NamedTuple):
    """A run in a figure."""

    label: str
    place: int
    record: Record


def _line(run: Shown, evaluations: Mapping[int, tuple[Evaluation, int]]) -> Line:
    """A run's line through (evaluation, depth) by x."""
    shares = [(exact(evaluation, depth), evaluation.puzzles) for evaluation, depth in evaluations.values()]
    errors = [standard_error(share, puzzles) or 1 - bound(puzzles) for share, puzzles in shares]
    x = [float(value) for value in evaluations]
    return Line(run.label, run.place, True, x, [100 * share for share, _ in shares], [100 * error for error in errors])


def _numbers(task: Task, test_set: str, runs: Sequence[Shown]) -> list[Number]:
    """The paper's numbers of these models, with the noise of training, if the test set is the one to compare on."""
    recipes = {run.record.recipe for run in runs} if test_set == task.compared_on else set()
    return [number for number in task.numbers if number.as_trained and recipes & {*number.recipes}]


def by_depth(task: Task, test_set: str, paper: Paper, runs: Sequence[Shown]) -> Drawing:
    """One start by depth, and the paper's numbers if the test set is the one to compare on."""
    lines = []
    for run in runs:
        if evaluation := widest(Setting(depth=DEPTH), test_set, paper, run.record):
            lines.append(_line(run, {depth: (evaluation, depth) for depth in evaluation.metrics if depth <= DEPTH}))
    numbers = _numbers(task, test_set, runs)
    numbers = [number for number in numbers if number.breadth == 1 and number.depth <= DEPTH]
    several = len({number.depth for number in numbers}) > 1
    crosses = [
        Cross(f"{number.model}: {number.exact:g}" + f" at {number.depth}" * several, number.depth, number.exact)
        for number in numbers
    ]
    puzzles = f"{paper.test_sets[test_set].puzzles:,} {paper.test_sets[test_set].called}"
    ticks = [2**power for power in range(7)]
    title = f"{task.title} by depth: one start, {puzzles}" + ("; × the paper" if crosses else "")
    return Drawing(title, "depth (outer iterations)", ticks, lines, crosses)


def by_breadth(task: Task, test_set: str, paper: Paper, runs: Sequence[Shown]) -> Drawing:
    """The best converged start by the number of starts."""
    lines = []
    for run in runs:
        found = {
            starts: widest(Setting(depth=DEPTH, breadth=starts), test_set, paper, run.record) for starts in BREADTHS
        }
        lines.append(_line(run, {starts: (evaluation, DEPTH) for starts, evaluation in found.items() if evaluation}))
    lines = [line for line in lines if len(line.x) > 1]
    numbers = [number for number in _numbers(task, test_set, runs) if number.depth == DEPTH]
    crosses = [Cross(f"{n.model}: {n.exact:g} of {n.breadth}", n.breadth, n.exact) for n in numbers if n.breadth > 1]
    title = f"{task.title} by breadth: depth {DEPTH}, {paper.test_sets[test_set].called}"
    title += "; × the paper" if crosses else ""
    x_label = "breadth (random starts, of which the best converged answers)"
    return Drawing(title, x_label, sorted({int(x) for line in lines for x in line.x}), lines, crosses)


def while_training(task: Task, paper: Paper, runs: Sequence[Shown], records: Sequence[Record]) -> Drawing:
    """Evaluations on the way, and the authors'. Steps count from the first run of a chain."""
    lines = []
    for run in runs:
        links = chain(run.record, records)[::-1]
        repeated = {link.name for link, following in pairwise(links) if not from_weights(following, link)}
        x: list[float] = []
        percent: list[float] = []
        for link in links:
            if link.name not in repeated:  # else the run that resumed it has its evaluations
                start = (x or [0.0])[-1]
                x += [start + step / 1000 for step, _, _ in link.quick_evaluations]
                percent += [100 * share for _, _, share in link.quick_evaluations]
        lines.append(Line(run.label, run.place, True, x, percent, []))
    lines = [line for line in lines if len(line.x) > 1]
    for place, curve in enumerate(task.curves if lines else []):
        steps = [curve.every * number / 1000 for number in range(1, len(curve.exact) + 1)]
        percent = [100 * share for share in curve.exact]
        lines.append(Line(curve.label, MOST_LINES - 1 - place, False, steps, percent, []))
    [called] = [test_set.called for test_set in paper.test_sets.values() if task.dataset in test_set.datasets]
    puzzles = max((count for run in runs for _, count, _ in run.record.quick_evaluations), default=0)
    title = f"{task.title} while training: depth 16, {puzzles:,} {called}"
    return Drawing(title, "training step, thousands", [], lines)


def _shown(task: Task, labels: Mapping[str, str], records: Sequence[Record]) -> list[Shown]:
    """The runs with these labels. A run has the same place in all figures of a task."""
    places = list(dict.fromkeys([*task.figures.depth, *task.figures.breadth, *task.figures.training]))
    by_name = {record.name: record for record in records}
    return [Shown(label, places.index(run), by_name[run]) for run, label in labels.items() if run in by_name]


def drawings(paper: Paper, records: Sequence[Record]) -> dict[str, Drawing]:
    """Every figure that has a line to show, by the name of its file."""
    candidates: dict[str, list[Drawing]] = {}
    for name, task in paper.tasks.items():
        depth, breadth = (_shown(task, labels, records) for labels in (task.figures.depth, task.figures.breadth))
        training = _shown(task, task.figures.training, records)
        test_sets = (task.compared_on, *task.also_on)  # a later one, as long as nothing is recorded on the first
        candidates[f"{name}_depth"] = [by_depth(task, test_set, paper, depth) for test_set in test_sets]
        candidates[f"{name}_breadth"] = [by_breadth(task, test_set, paper, breadth) for test_set in test_sets]
        candidates[f"{name}_training"] = [while_training(task, paper, training, records)]
    drawn = {name: [drawing for drawing in choice if drawing.lines] for name, choice in candidates.items()}
    return {name: choice[0] for name, choice in drawn.items() if choice}
