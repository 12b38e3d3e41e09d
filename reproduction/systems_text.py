"""The text of the table of all systems: size, work and training of each, its accuracy beside the paper's."""

import re
from collections.abc import Sequence

from reproduction.accuracy import exact, percent
from reproduction.paper import Number, Paper, Setting, Task
from reproduction.records import ROOT, Evaluation, Record
from reproduction.table_text import gpu_hours, link, measured, noise, steps, table, widest

SIZES = ROOT / "docs" / "experiments.md"
"""Has a line for every recipe, with its parameters and GFLOP an outer iteration, which tests compare."""
_TRIED = (Setting(depth=64), Setting(depth=64, breadth=8))
"""What we measured beyond the settings of the paper's numbers."""


def sizes() -> dict[str, tuple[str, str]]:
    """(Parameters, GFLOP an outer iteration of one puzzle) by recipe."""
    lines = re.findall(r"^\| `(\w+)` \|(.*)\|$", SIZES.read_text(), re.MULTILINE)
    cells = {recipe: [cell.strip() for cell in line.split("|")] for recipe, line in lines}
    return {recipe: (row[-2], row[-1]) for recipe, row in cells.items()}


def _words(setting: Setting) -> str:
    """Such as "64 x 128, noise 0.5": depth x starts."""
    starts = f" x {setting.breadth}" if setting.breadth > 1 else ""
    return f"{setting.depth}{starts}{noise(setting)}" + (", streaming" if setting.streaming else "")


def _best(numbers: Sequence[Number], task: Task, paper: Paper, record: Record) -> tuple[Setting, Evaluation]:
    """The setting with the most right answers, and its evaluation; of equal ones the cheapest."""
    settings = sorted([*numbers, *_TRIED], key=lambda setting: setting.depth * setting.breadth)
    found = [(setting, widest(setting, task.compared_on, paper, record)) for setting in settings]
    known = [(setting, evaluation) for setting, evaluation in found if evaluation]
    return max(known, key=lambda pair: exact(pair[1], pair[0].depth))


def systems(task: Task, paper: Paper, records: Sequence[Record]) -> str:
    """A line for every model of the paper's numbers and every run of it."""
    rows, size = [], sizes()
    for model in dict.fromkeys(number.model for number in task.numbers):
        numbers = [number for number in task.numbers if number.model == model]
        first, best = numbers[0], max(numbers, key=lambda number: number.exact)
        theirs = [f"{first.exact:g}", "" if best is first else f"{best.exact:g} at {_words(best)}"]
        runs = measured(first, task, paper, records)
        for record, evaluation in runs:
            setting, highest = _best(numbers, task, paper, record)
            ours = percent(exact(evaluation, first.depth), evaluation.puzzles)
            most = f"{percent(exact(highest, setting.depth), highest.puzzles)} at {_words(setting)}"
            row = [f"{model}, `{record.recipe}`", *size[record.recipe], link(record), steps(record, records)]
            rows.append([*row, f"{gpu_hours(record, records):.2f}", theirs[0], ours, theirs[1], most])
        if not runs:
            row = [f"{model}, `{first.recipes[0]}`", *size[first.recipes[0]], "not run", "", ""]
            rows.append([*row, theirs[0], "", theirs[1], ""])
    head = ["system", "parameters", "GFLOP an iteration", "run", "steps", "GPU hours"]
    return table([*head, "paper", "ours", "paper's best", "our best"], rows, "lrrlrrrrrr")


def systems_texts(paper: Paper, records: Sequence[Record]) -> dict[str, str]:
    """The table of every task by name."""
    return {f"{name}_systems": systems(task, paper, records) for name, task in paper.tasks.items()}
