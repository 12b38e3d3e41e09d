"""The text of every table that `reproduction.tables` fills in, from the records and the paper's numbers."""

import shlex
from collections.abc import Mapping, Sequence

from reproduction.accuracy import HIGHEST_Q_HALT, MAJORITY, exact, metric, percent, rule, selection
from reproduction.commands import evaluation_words, training_words
from reproduction.paper import Number, Paper, Setting, Task
from reproduction.records import STARTS_STD, Evaluation, Record, Share, chain, spent_before

DEPTHS = (1, 2, 4, 8, 16, 32, 64)
NOT_RUN = "not run\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> str:
    """A Markdown table, or "not run". `sides` has an l or an r for every column: the side to which it is aligned."""
    if not rows:
        return NOT_RUN
    assert len(sides) == len(head)
    ruler = ["---:" if side == "r" else "---" for side in sides]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ruler, *rows))


def runs_of(task: Task, records: Sequence[Record]) -> list[Record]:
    """The runs that were trained on a task's data."""
    return [record for record in records if record.config.dataset.data_path == f"data/{task.dataset}"]


def _fits(wanted: Setting, record: Record, evaluation: Evaluation) -> bool:
    """Whether an evaluation has these settings, and otherwise those of training."""
    settings, own = evaluation.settings, record.own_settings
    if wanted.noise_scale is not None:
        own["noise_scale"] = wanted.noise_scale
    values = settings.model_dump()
    return (
        wanted.depth in evaluation.metrics
        and (settings.different_init, settings.streaming) == (wanted.breadth, wanted.streaming)
        and (settings.split, settings.perturb_std, settings.ema) == ("test", wanted.perturb_std, True)
        and settings.different_init_reset_std == (None if wanted.perturb_std else STARTS_STD)
        and all(values[name] == value for name, value in own.items())
    )


def widest(wanted: Setting, test_set: str, paper: Paper, record: Record) -> Evaluation | None:
    """Of a run's evaluations with these settings, the one on most puzzles, preferably not in 8 bits."""
    fitting = [
        evaluation
        for evaluation in record.evaluations
        if paper.test_set(evaluation) == test_set and _fits(wanted, record, evaluation)
    ]
    return max(reversed(fitting), key=lambda evaluation: (evaluation.puzzles, not evaluation.float8), default=None)


def measured(number: Number, task: Task, paper: Paper, records: Sequence[Record]) -> list[tuple[Record, Evaluation]]:
    """Every run of a number's recipes with its widest evaluation on the task's main test set."""
    return [
        (record, evaluation)
        for recipe in number.recipes
        for record in runs_of(task, records)
        if record.recipe == recipe and (evaluation := widest(number, task.compared_on, paper, record))
    ]


def steps(record: Record, records: Sequence[Record]) -> str:
    """Its training steps, such as "50,000 + 18,000" if it began from another run's weights."""
    before, _ = spent_before(record, records)
    return (f"{before:,} + " if before else "") + f"{record.steps:,}"


def gpu_hours(record: Record, records: Sequence[Record]) -> float:
    """What its training took, with that of the runs from which it went on."""
    return (spent_before(record, records)[1] + record.gpu_seconds) / 3600


def _puzzles(paper: Paper, evaluation: Evaluation) -> str:
    """Such as "800 real test puzzles": what an evaluation was made on."""
    if name := paper.test_set(evaluation):
        return f"{evaluation.puzzles:,} {paper.test_sets[name].called}"
    kind = "training" if evaluation.settings.split == "train" else "test"
    return f"{evaluation.puzzles:,} {kind} puzzles of {evaluation.dataset}"


def _float8(evaluation: Evaluation) -> str:
    return ", float8" if evaluation.float8 else ""


def link(record: Record) -> str:
    """Markdown to a run's record."""
    return f"[{record.name}](runs/{record.name}.json)"


def noise(setting: Setting) -> str:
    """Such as ", noise 0.5", if it is not that of training."""
    if setting.perturb_std:
        return f", perturbed by {setting.perturb_std:g}"
    return "" if setting.noise_scale is None else f", noise {setting.noise_scale:g}"


def _model(number: Number) -> str:
    return number.model + noise(number) + (", streaming" if number.streaming else "")


def _theirs(number: Number) -> str:
    """Such as "97.4 at 1400.6", the latter NFE, or "100 after 100k steps"."""
    spent = f" at {number.nfe:g}" if number.nfe else ""
    return f"{number.exact:g}{spent}" + (f" after {number.steps // 1000}k steps" if number.steps else "")


def _ours(setting: Setting, evaluation: Evaluation) -> str:
    """Such as "99.58 ± 0.29 (majority of 128) at 1520.4"."""
    value = percent(exact(evaluation, setting.depth), evaluation.puzzles)
    if rule(evaluation) in (MAJORITY, HIGHEST_Q_HALT):
        value += f" ({selection(evaluation)})"
    return value + (f" at {metric(evaluation, setting.depth, 'nfe/mean'):.1f}" if setting.streaming else "")


def comparison(task: Task, paper: Paper, records: Sequence[Record]) -> str:
    """The paper's numbers of a task with ours beside them: a line for every run."""
    rows = []
    for number in task.numbers:
        row = [_model(number), str(number.depth), str(number.breadth), _theirs(number), number.source]
        for record, evaluation in (runs := measured(number, task, paper, records)):
            puzzles = f"{evaluation.puzzles:,}{_float8(evaluation)}"
            ours = [_ours(number, evaluation), puzzles, f"`{record.recipe}`", link(record)]
            rows.append([*row, *ours, steps(record, records)])
            row = [""] * len(row)
        if not runs:
            rows.append([*row, "not run", "", f"`{number.recipes[0]}`", "", ""])
    head = ["model", "depth", "starts", "paper", "source", "ours ± standard error", "puzzles", "config", "run", "steps"]
    used = {number.source: paper.sources[number.source] for number in task.numbers}
    sources = "; ".join(f"{name}: {where}" for name, where in used.items())
    about = f"The paper's test set: {task.paper_test_set}; ours: {paper.test_sets[task.compared_on].about}."
    return f"{about} {task.remark}\n\n{table(head, rows, 'lrrrlrrllr')}\nSources: {sources}.\n"


def summary(paper: Paper, records: Sequence[Record]) -> str:
    """The few numbers for the front page: of each the run that the number names."""
    rows = []
    for task in paper.tasks.values():
        for number in task.numbers:
            if number.summary:
                runs = [pair for pair in measured(number, task, paper, records) if pair[0].name == number.summary]
                ours = [(_ours(number, evaluation), f"{evaluation.puzzles:,}") for _, evaluation in runs]
                row = [task.title, _model(number), str(number.depth), str(number.breadth), _theirs(number)]
                rows.append([*row, *(ours or [("not run", "")])[0], f"`{number.summary}`"])
    head = ["task", "model", "depth", "starts", "paper", "ours, one seed ± standard error", "puzzles", "our run"]
    return table(head, rows, "llrrrrrl")


_COLUMNS = {
    "depth 16": Setting(depth=16),
    "depth 64": Setting(depth=64),
    "8 starts, depth 64": Setting(depth=64, breadth=8),
    "128 starts, depth 64": Setting(depth=64, breadth=128),
    "streaming to 1024": Setting(depth=1024, streaming=True),
}


def all_runs(task: Task, test_set: str, paper: Paper, records: Sequence[Record]) -> str:
    """A line for every run of a task: its accuracies on one test set."""
    rows = []
    for record in runs_of(task, records):
        cells = []
        for setting in _COLUMNS.values():
            evaluation = widest(setting, test_set, paper, record)
            whole = evaluation and evaluation.puzzles == paper.test_sets[test_set].puzzles
            part = "" if not evaluation or whole else f" of {evaluation.puzzles:,}"
            cells.append(_ours(setting, evaluation) + part if evaluation else "")
        if any(cells):
            rows.append([link(record), steps(record, records), *cells])
    used = [column for column in range(2 + len(_COLUMNS)) if any(row[column] for row in rows)]
    head = ["run", "steps", *_COLUMNS]
    return table([head[i] for i in used], [[row[i] for i in used] for row in rows], "l" + "r" * (len(used) - 1))


def _by_depth(shares: Mapping[int, float]) -> list[str]:
    """Shares in percent at each of DEPTHS."""
    return [f"{100 * shares[depth]:.1f}" if depth in shares else "" for depth in DEPTHS]


def side_by_side(task: Task, paper: Paper, records: Sequence[Record]) -> str:
    """All runs of a task by depth, those with equally many starts together; of several evaluations the widest."""
    rows = []
    for test_set in (task.compared_on, *task.also_on):
        for breadth in (1, 8, 32, 128):
            for record in runs_of(task, records):
                evaluation = widest(Setting(breadth=breadth), test_set, paper, record)
                if evaluation is None:
                    continue
                row, puzzles = [record.name, steps(record, records)], _puzzles(paper, evaluation) + _float8(evaluation)
                answers = {depth: exact(evaluation, depth) for depth in evaluation.metrics}
                rows.append([*row, _answer(evaluation), puzzles, *_by_depth(answers)])
                if breadth > 1:
                    name = "selection/majority/exact_accuracy"
                    votes = {depth: metric(evaluation, depth, name) for depth in evaluation.metrics}
                    rows.append([*row, f"majority of {breadth}", puzzles, *_by_depth(votes)])
    head = ["run", "steps", "answer", "on", *(f"depth {depth}" for depth in DEPTHS)]
    return table(head, rows, "lrll" + "r" * len(DEPTHS))


def trained(records: Sequence[Record]) -> str:
    """A line for every run."""
    rows = []
    for record in records:
        row = [link(record), f"`{record.recipe}`", str(record.seed), steps(record, records)]
        rows.append(
            [*row, f"{gpu_hours(record, records):.2f}", record.hardware, f"`{record.commit}`", record.note or ""]
        )
    head = ["run", "config", "seed", "steps", "GPU hours", "hardware", "commit", "note"]
    return table(head, rows, "llrrrlll")


def _answer(evaluation: Evaluation) -> str:
    return ("streaming, " if evaluation.settings.streaming else "") + selection(evaluation)


def _noise(evaluation: Evaluation) -> str:
    noise = evaluation.settings.noise_scale
    return "-" if noise is None else f"{noise:g}"


def evaluated(paper: Paper, records: Sequence[Record]) -> str:
    """A line for every evaluation, at its last depth."""
    rows = []
    for record in records:
        for evaluation in record.evaluations:
            depth = evaluation.depth
            vote = evaluation.metrics[depth].get("selection/majority/exact_accuracy")
            device = "CPU" if evaluation.device == "cpu" else evaluation.device.removeprefix("NVIDIA ")
            row = [record.name, str(depth), _answer(evaluation), _noise(evaluation), _puzzles(paper, evaluation)]
            row += [percent(exact(evaluation, depth), evaluation.puzzles), "" if vote is None else f"{100 * vote:.2f}"]
            row += [f"{metric(evaluation, depth, 'nfe/mean'):.1f}"]
            row += [f"{metric(evaluation, depth, f'all/q_halt_{name}'):.2%}" for name in ("accuracy", "ece")]
            rows.append([*row, f"{evaluation.work.process_seconds:,.0f}", device + _float8(evaluation)])
    head = ["run", "depth", "answer", "noise", "puzzles", "exact, % ± standard error", "majority, %", "NFE"]
    head += ["q_halt acc.", "calibration error", "seconds of work (all depths)", "on"]
    return table(head, rows, "lrlrlrrrrrrl")


def grouped(records: Sequence[Record]) -> str:
    """A line for every group of puzzles of an evaluation that was tabulated by groups, at its last depth."""
    rows = []
    for record in records:
        for evaluation in record.evaluations:
            training = " training" if evaluation.settings.split == "train" else ""
            for column, by_depth in evaluation.by.items():
                for group in by_depth[depth := max(by_depth)]:
                    share: Share | None = group.exact_accuracy
                    if evaluation.settings.different_init > 1:
                        shares = {MAJORITY: group.majority, HIGHEST_Q_HALT: None}
                        share = shares.get(rule(evaluation), group.best_converged)
                    value = percent(share.share, share.puzzles) if share else "-"
                    row = [record.name, str(depth), _answer(evaluation), _noise(evaluation), column, group.group]
                    rows.append([*row, f"{group.puzzles:,}{training}", value])
    head = ["run", "depth", "answer", "noise", "by", "group", "puzzles", "exact, % ± standard error"]
    return table(head, rows, "lrlrllrr")


def commands(records: Sequence[Record]) -> str:
    """The commands that train and evaluate every run again. A run comes after the runs that it went on from."""
    lines = []
    for record in sorted(records, key=lambda record: len(chain(record, records))):
        words = training_words(record, chain(record, records)[1:], f"RUN_DIR_OF_{record.after}")
        lines += [f"# {record.name}", f"bash scripts/train.sh {shlex.join(words)}"]
        lines += [
            f"bash scripts/eval.sh RUN_DIR {shlex.join(evaluation_words(record, evaluation))}"
            for evaluation in record.evaluations
        ]
    return "```bash\n" + "\n".join(lines) + "\n```\n" if lines else NOT_RUN


def table_texts(paper: Paper, records: Sequence[Record]) -> dict[str, str]:
    """The text of every table by name."""
    texts = {name: comparison(task, paper, records) for name, task in paper.tasks.items()}
    texts |= {f"{name}_depths": side_by_side(task, paper, records) for name, task in paper.tasks.items()}
    for name, task in paper.tasks.items():
        for test_set in (task.compared_on, *task.also_on):
            texts[f"{name}_{test_set}"] = all_runs(task, test_set, paper, records)
    texts |= {"summary": summary(paper, records), "runs": trained(records), "groups": grouped(records)}
    return texts | {"evaluations": evaluated(paper, records), "commands": commands(records)}
