"""How our Sudoku test set differs from new puzzles of the training puzzles' source: the block `held_out`.

The folds of `reproduction.folds` were evaluated on both. The odds p / (1 - p) of an exact answer differ by a factor
that is taken to hold for other runs, too, to estimate what they would solve of puzzles like those held out.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from reproduction.blocks import of_task, steps, table, widest
from reproduction.recorded import Record, exact, percent

SAID = {"trained_on": "trained on", "held_out": "held out", "ours": "our test set"}
DEPTHS = ("4", "8", "16", "32", "64")


class Share(NamedTuple):
    """How many of how many puzzles are solved."""

    solved: float
    puzzles: float

    @property
    def logit(self) -> float:
        """The logarithm of the odds, with half a puzzle more on either side, so that none and all have one."""
        return math.log((self.solved + 0.5) / (self.puzzles - self.solved + 0.5))

    @property
    def logit_error(self) -> float:
        """Its standard error."""
        return math.sqrt(1 / (self.solved + 0.5) + 1 / (self.puzzles - self.solved + 0.5))


def _folds(recorded: Sequence[Record]) -> list[Record]:
    """For each fold the groups of its evaluation of one start, by depth."""
    return [
        groups
        for run in recorded
        for one in run["evaluations"]
        if set(DEPTHS) <= set(groups := one["by"].get("source", {}))
        and any(of["group"] == "held_out" for of in groups[DEPTHS[0]])
        and (one["settings"]["different_init"], one["settings"]["streaming"]) == (1, False)
        and "kernels" not in one["settings"]
    ]


def shares(recorded: Sequence[Record], depth: str) -> dict[str, Share]:
    """What all folds solve of `trained_on` and `held_out`, and in the mean of the test set, "ours"; {} without folds.

    Each fold has other puzzles held out, and the same test set.
    """
    found: dict[str, Share] = {}
    folds = _folds(recorded)
    for groups in folds:
        for of in groups[depth]:
            if of["group"] != "all":
                name, times = (of["group"], 1) if of["group"] in SAID else ("ours", len(folds))
                solved, puzzles = found.get(name, Share(0, 0))
                more = of["puzzles"] / times
                found[name] = Share(solved + of["exact_accuracy"]["share"] * more, puzzles + more)
    return found


def factor(recorded: Sequence[Record], depth: str) -> tuple[float, float]:
    """The logarithm of the factor from the odds of our puzzles to those of puzzles held out, and its standard error."""
    held, ours = (shares(recorded, depth)[name] for name in ("held_out", "ours"))
    return held.logit - ours.logit, math.hypot(held.logit_error, ours.logit_error)


def on_held_out(share: float, puzzles: int, recorded: Sequence[Record], depth: str) -> tuple[float, float]:
    """The share that a run with this share of our puzzles would have of puzzles like those held out, and its error."""
    log, error = factor(recorded, depth)
    ours = Share(share * puzzles, puzzles)
    there = 1 / (1 + math.exp(-ours.logit - log))
    return there, there * (1 - there) * math.hypot(error, ours.logit_error)


def _as_text(log: float, error: float) -> str:
    return f"{math.exp(log):.2f} ± {math.exp(log) * error:.2f}"


def text(paper: Record, recorded: Sequence[Record]) -> str:
    """Two tables: what the folds solve, and what the other Sudoku runs, one start, would of puzzles held out."""
    if not _folds(recorded):
        return "not run\n"
    rows = []
    for name, said in SAID.items():
        at = [shares(recorded, depth)[name] for depth in DEPTHS]
        puzzles = round(at[0].puzzles)
        rows.append([said, f"{puzzles:,}", *(percent(one.solved / one.puzzles, puzzles) for one in at)])
    rows.append(["odds, held out to ours", "", *(_as_text(*factor(recorded, depth)) for depth in DEPTHS)])
    folds = table(["puzzles", "number", *(f"depth {depth}" for depth in DEPTHS)], rows, "lr" + "r" * len(DEPTHS))
    rows, task = [], paper["sudoku"]
    for run in of_task(task, recorded):
        for depth in ("16", "64"):
            theirs = [
                f"{number['exact']:g}"
                for number in task["numbers"]
                if (number["config"], str(number.get("depth"))) == (run["config"]["run_name"], depth)
                and not {"breadth", "streaming", "noise_scale"} & set(number)
            ]
            for one in widest({"depth": int(depth)}, task, run):
                share, error = on_held_out(exact(one, depth), one["puzzles"], recorded, depth)
                ours = [percent(exact(one, depth), one["puzzles"]), f"{100 * share:.1f} ± {100 * error:.1f}"]
                rows.append([run["name"], steps(run, recorded), depth, (theirs or [""])[0], *ours])
    head = ["run", "steps", "depth", "paper", "our test set", "at those odds"]
    return f"{folds}\n{table(head, rows, 'lrrrrr')}"
