"""How much harder our Sudoku test set is than new puzzles of the training puzzles' source: the block `held_out`.

The folds of `results.folds` were evaluated on both. The odds p / (1 - p) of an exact answer differ by about the same
factor at every depth, so that this factor says what another run would have on puzzles like those held out.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from results.blocks import of_task, steps, table, widest
from results.recorded import Record, exact, percent

SAID = {"trained_on": "trained on", "held_out": "held out", "ours": "our test set"}
DEPTHS = ("4", "8", "16", "32", "64")


class Share(NamedTuple):
    """How many of how many puzzles are solved."""

    solved: float
    puzzles: float

    @property
    def logit(self) -> float:
        """The logarithm of the odds."""
        return math.log(self.solved / (self.puzzles - self.solved))

    @property
    def logit_error(self) -> float:
        """Its standard error."""
        return math.sqrt(1 / self.solved + 1 / (self.puzzles - self.solved))


def _by_source(recorded: Sequence[Record]) -> list[Record]:
    """By depth, the groups of every evaluation of a fold."""
    by = [one["by"].get("source", {}) for run in recorded for one in run["evaluations"]]
    return [groups for groups in by if any(of["group"] == "held_out" for of in groups.get("16", []))]


def shares(recorded: Sequence[Record], depth: str) -> dict[str, Share]:
    """What the folds solve together of `trained_on`, `held_out` and, as "ours", the test set; {} without folds."""
    found: dict[str, Share] = {}
    for groups in _by_source(recorded):
        for of in groups[depth]:
            if of["group"] != "all":
                name = of["group"] if of["group"] in SAID else "ours"
                solved, puzzles = found.get(name, Share(0, 0))
                found[name] = Share(solved + of["exact_accuracy"]["share"] * of["puzzles"], puzzles + of["puzzles"])
    return found


def harder(recorded: Sequence[Record], depth: str) -> tuple[float, float]:
    """The logarithm of the factor between the odds of puzzles held out and of ours, and its standard error."""
    held, ours = (shares(recorded, depth)[name] for name in ("held_out", "ours"))
    return held.logit - ours.logit, math.hypot(held.logit_error, ours.logit_error)


def as_if(share: float, puzzles: int, recorded: Sequence[Record], depth: str) -> tuple[float, float]:
    """The share that a run with this share of our puzzles would have of puzzles like those held out, and its error."""
    more, error = harder(recorded, depth)
    ours = Share(share * puzzles, puzzles)
    there = 1 / (1 + math.exp(-ours.logit - more))
    return there, there * (1 - there) * math.hypot(error, ours.logit_error)


def _factor(recorded: Sequence[Record], depth: str) -> str:
    log, error = harder(recorded, depth)
    return f"{math.exp(log):.2f} ± {math.exp(log) * error:.2f}"


def text(paper: Record, recorded: Sequence[Record]) -> str:
    """Two tables: what the folds solve, and what the other Sudoku runs, one start, would of puzzles held out."""
    if not _by_source(recorded):
        return "not run\n"
    rows = []
    for name, said in SAID.items():
        at = [shares(recorded, depth)[name] for depth in DEPTHS]
        puzzles = int(at[0].puzzles)
        rows.append([said, f"{puzzles:,}", *(percent(one.solved / puzzles, puzzles) for one in at)])
    rows.append(["odds, held out to ours", "", *(_factor(recorded, depth) for depth in DEPTHS)])
    folds = table(["puzzles, of both folds", "number", *(f"depth {depth}" for depth in DEPTHS)], rows, "lr" + "r" * 5)
    rows, task = [], paper["sudoku"]
    for run in of_task(task, recorded):
        for one in widest({}, task, run):
            for depth in ("16", "64"):
                share = exact(one, depth)
                there, error = as_if(share, one["puzzles"], recorded, depth)
                theirs = [
                    f"{number['exact']:g}"
                    for number in task["numbers"]
                    if (number["config"], str(number.get("depth"))) == (run["config"]["run_name"], depth)
                    and not {"breadth", "streaming"} & set(number)
                ]
                ours = [percent(share, one["puzzles"]), f"{100 * there:.1f} ± {100 * error:.1f}"]
                rows.append([run["name"], steps(run, recorded), depth, *(theirs or [""]), *ours])
    head = ["run", "steps", "depth", "paper", "our test set", "at those odds"]
    return f"{folds}\n{table(head, rows, 'lrrrrr')}"
