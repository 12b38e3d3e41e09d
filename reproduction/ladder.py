"""The figure "what makes it reason": from the feedforward net, step by step, to EqR. The paper's numbers and ours.

Ours are compared after equally many training steps with equal settings, by the evaluations on the way. So runs of any
lengths can be compared, if their rate is constant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from config.schema import PretrainConfig
from evaluation.drawing import pictures
from evaluation.metrics import standard_error
from reproduction.accuracy import bound
from reproduction.paper import Paper, Task
from reproduction.picture import Picture
from reproduction.records import Record
from reproduction.table_text import runs_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAME = ("optimizer", "lr", "lr_warmup_steps", "lr_min_ratio", "lr_decay_steps", "weight_decay")
"""Settings in which all rungs must agree, beside the batch."""
BAR = 0.38
"""The height of a bar; a rung has height 1."""


class Rung(NamedTuple):
    """Accuracies in percent. `ours` is the mean over so many `seeds`, with a binomial error; None: not run."""

    label: str
    paper: float
    ours: float | None = None
    error: float = 0
    seeds: int = 0


class Point(NamedTuple):
    """Where rungs can be compared: after so many steps, on so many puzzles, with so many rows, by a schedule."""

    step: int
    puzzles: int
    rows: int
    schedule: tuple[object, ...]


@dataclass(frozen=True)
class Ladder(Picture):
    """Two bars for every rung. For what was not run, words take the place of the second."""

    title: str
    paper: str
    ours: str
    rungs: list[Rung]

    def figure(self) -> "Figure":
        figure = pictures.new_figure(10, 5.2)
        axes = figure.add_subplot()
        for y, rung in enumerate(self.rungs):
            axes.barh(y, rung.paper, BAR, color=pictures.GREY, label=self.paper if y == 0 else None)
            axes.text(rung.paper + 1, y, f"{rung.paper:g}", va="center", color=pictures.GREY)
        for y, rung in enumerate(self.rungs):
            if rung.ours is None:
                axes.text(1, y + BAR, "not run", va="center", color=pictures.BLUE)
            else:
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


def _schedule(config: PretrainConfig) -> tuple[object, ...]:
    """Equal for runs that train alike. A rate that falls also depends on how long they were to be."""
    length = None if config.lr_min_ratio == 1 else config.max_steps or f"{config.epochs} epochs"
    return (*(getattr(config, name) for name in SAME), length)


def ladder(task: Task, paper: Paper, records: Sequence[Record]) -> Ladder:
    """The ladder of a task.

    Ours are of the schedule and the step at which most rungs have an evaluation of equally many puzzles; of equally
    many rungs the last step counts. Runs that went on from others are left out.
    """
    shares: dict[Point, dict[str, list[float]]] = {}
    for record in runs_of(task, records):
        if record.recipe in task.ladder and not record.after:
            for step, puzzles, share in record.quick_evaluations:
                at = Point(step, puzzles, record.config.global_batch_size, _schedule(record.config))
                shares.setdefault(at, {}).setdefault(record.recipe, []).append(share)
    most = max(shares, key=lambda at: (len(shares[at]), at.step), default=Point(0, 0, 0, ()))
    step, puzzles, rows, _ = most
    ours = shares.get(most, {})
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
    ran = f"ours: {puzzles:,} {called} after {step:,} steps of {rows} rows" if ours else "ours"
    return Ladder(f"{task.title}: what makes it reason", f"the paper: {task.paper_test_set}", ran, rungs)


def ladders(paper: Paper, records: Sequence[Record]) -> dict[str, Ladder]:
    """The ladder of every task of which a rung was run, by the name of its file."""
    drawn = {f"{name}_ladder": ladder(task, paper, records) for name, task in paper.tasks.items()}
    return {name: picture for name, picture in drawn.items() if any(rung.seeds for rung in picture.rungs)}
