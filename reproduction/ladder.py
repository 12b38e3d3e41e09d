"""The figure "what makes it reason": from the feedforward net, step by step, to EqR. The paper's numbers and ours.

Ours are compared after equally many training steps, by the evaluations on the way. So runs of any lengths can be
compared, if their rate did not fall before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from evaluation.drawing import pictures
from reproduction.accuracy import bound, standard_error
from reproduction.paper import Paper, Task
from reproduction.picture import Picture
from reproduction.records import Record
from reproduction.table_text import runs_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAR = 0.38
"""The height of a bar; a rung has height 1."""


class Rung(NamedTuple):
    """Accuracies in percent. `ours` is the mean over so many `seeds`, with a binomial error; None: not run."""

    label: str
    paper: float
    ours: float | None = None
    error: float = 0
    seeds: int = 0


@dataclass(frozen=True)
class Ladder(Picture):
    """Two bars for every rung. What was not run has the paper's bar alone."""

    title: str
    paper: str
    ours: str
    rungs: list[Rung]

    def figure(self) -> "Figure":
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 5.2), layout="constrained")
        axes = figure.add_subplot()
        for y, rung in enumerate(self.rungs):
            axes.barh(y, rung.paper, BAR, color=pictures.GREY, label=self.paper if y == 0 else None)
            axes.text(rung.paper + 1, y, f"{rung.paper:g}", va="center", color=pictures.GREY)
        for y, rung in enumerate(self.rungs):
            if rung.ours is not None:
                error = [[min(rung.error, rung.ours)], [rung.error]]
                axes.barh(y + BAR, rung.ours, BAR, xerr=error, color=pictures.BLUE)
                seeds = f" ({rung.seeds} seeds)" if rung.seeds > 1 else ""
                axes.text(
                    rung.ours + rung.error + 1, y + BAR, f"{rung.ours:.1f}{seeds}", va="center", color=pictures.BLUE
                )
        axes.barh(0, 0, color=pictures.BLUE, label=self.ours)
        axes.set_yticks([y + BAR / 2 for y in range(len(self.rungs))], [rung.label for rung in self.rungs])
        axes.invert_yaxis()
        axes.set(xlabel="exact accuracy, %", xlim=(0, 100))
        axes.set_title(self.title, loc="left")
        figure.legend(loc="outside lower left")
        return figure


def comparable(recipe: str, task: Task, records: Sequence[Record]) -> list[Record]:
    """The runs of a recipe that began anew, at a constant rate."""
    return [
        record
        for record in runs_of(task, records)
        if record.recipe == recipe and not record.after and record.config.lr_min_ratio == 1
    ]


def ladder(task: Task, paper: Paper, records: Sequence[Record]) -> Ladder:
    """The ladder of a task.

    Ours are of the step at which most rungs have an evaluation of equally many puzzles, and of such steps the last.
    """
    shares: dict[tuple[int, int], dict[str, list[float]]] = {}
    for recipe in task.ladder:
        for record in comparable(recipe, task, records):
            for step, puzzles, share in record.quick_evaluations:
                shares.setdefault((step, puzzles), {}).setdefault(recipe, []).append(share)
    (step, puzzles), ours = max(shares.items(), key=lambda item: (len(item[1]), item[0]), default=((0, 0), {}))
    rungs = []
    for recipe, label in task.ladder.items():
        theirs = next(number.exact for number in task.numbers if recipe in number.recipes)
        if recipe not in ours:
            rungs.append(Rung(label, theirs))
            continue
        share = sum(ours[recipe]) / len(ours[recipe])
        error = standard_error(share, puzzles) or 1 - bound(puzzles)
        rungs.append(Rung(label, theirs, 100 * share, 100 * error, len(ours[recipe])))
    [called] = [test_set.called for test_set in paper.test_sets.values() if task.dataset in test_set.datasets]
    ran = f"ours: {puzzles:,} {called} after {step:,} training steps" if ours else "ours"
    if missing := len(rungs) - len(ours):
        ran += f" ({missing} of {len(rungs)} not run)"
    return Ladder(f"{task.title}: what makes it reason", f"the paper: {task.paper_test_set}", ran, rungs)


def ladders(paper: Paper, records: Sequence[Record]) -> dict[str, Ladder]:
    """The ladder of every task of which a rung was run, by the name of its file."""
    drawn = {f"{name}_ladder": ladder(task, paper, records) for name, task in paper.tasks.items()}
    return {name: picture for name, picture in drawn.items() if any(rung.seeds for rung in picture.rungs)}
