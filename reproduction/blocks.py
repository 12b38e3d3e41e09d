"""The text of every block that `reproduction.tables` fills in, from the records and the paper's numbers."""

import shlex
from collections.abc import Sequence

from reproduction.recorded import (
    FROM_ARCH,
    STARTS_STD,
    Record,
    by_majority,
    chain,
    evaluation_words,
    exact,
    percent,
    selection,
    spent_before,
    steps,
    training_words,
)

TASKS = ("sudoku", "maze_unique")
DEPTHS = (1, 2, 4, 8, 16, 32, 64)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: str) -> str:
    """A Markdown table; `numbers` has an r for every column that is aligned to the right, and an l for others."""
    ruler = ["---:" if side == "r" else "---" for side in numbers]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ruler, *rows))


def of_task(task: Record, recorded: Sequence[Record]) -> list[Record]:
    """The runs that were trained on a task's data."""
    return [run for run in recorded if run["config"]["dataset"]["data_path"] == f"data/{task['data']}"]


def _same_settings(number: Record, run: Record, evaluation: Record) -> bool:
    """Whether an evaluation is what a number of the paper is: its settings, and otherwise those of training."""
    settings, wanted = evaluation["settings"], {name: run["config"]["arch"].get(name) for name in FROM_ARCH}
    wanted |= {name: number[name] for name in FROM_ARCH if name in number}
    wanted |= {"different_init": number.get("breadth", 1), "streaming": number.get("streaming", False)}
    wanted |= {"split": "test", "perturb_std": 0.0, "ema": True, "different_init_reset_std": STARTS_STD}
    return str(number.get("depth", 1)) in evaluation["metrics"] and all(
        settings[name] == value for name, value in wanted.items()
    )


def widest(number: Record, task: Record, run: Record) -> list[Record]:
    """At most one of a run's evaluations with a number's settings: that on most puzzles, rather not in eight bits."""
    fitting = [one for one in run["evaluations"] if one["dataset"] == task["data"] and _same_settings(number, run, one)]
    return sorted(fitting, key=lambda one: (int(one["puzzles"]), "kernels" not in one["settings"]))[-1:]


def measured(number: Record, task: Record, recorded: Sequence[Record]) -> list[tuple[Record, Record]]:
    """(run, evaluation) for every run of the number's config that was evaluated so; of several, on most puzzles."""
    return [
        (run, one)
        for run in of_task(task, recorded)
        if run["config"]["run_name"] == number["config"]
        for one in widest(number, task, run)
    ]


def _on(paper: Record, one: Record) -> str:
    """Such as "11,999 puzzles that are not the paper's": what an evaluation was made on, wherever it stands."""
    names, dataset = {paper[task]["data"]: paper[task]["ours_are"] for task in TASKS}, one["dataset"]
    if one["settings"]["split"] == "train":
        return f"{one['puzzles']:,} training puzzles of {dataset}"
    return f"{one['puzzles']:,} {names.get(dataset, f'test puzzles of {dataset}')}"


def _how(paper: Record, one: Record) -> str:
    """What an evaluation was made on, and whether in eight bits."""
    return _on(paper, one) + (", float8" if "kernels" in one["settings"] else "")


def _link(run: Record) -> str:
    return f"[{run['name']}](runs/{run['name']}.json)"


def _theirs(number: Record) -> str:
    """Such as "97.4 at 1400.6" NFE, or "100 after 100k steps"."""
    spent = f" at {number['nfe']:g}" if "nfe" in number else ""
    return f"{number['exact']:g}{spent}" + (f" after {number['steps'] // 1000}k steps" if "steps" in number else "")


def _model(number: Record, name: str) -> str:
    noise = f", noise {number['noise_scale']:g}" if "noise_scale" in number else ""
    return name + noise + (", streaming" if number.get("streaming") else "")


def _value(number: Record, evaluation: Record) -> str:
    """Such as "99.58 ± 0.29 (majority of 128) at 1520.4", for a number of the paper."""
    depth = str(number.get("depth", 1))
    value = percent(exact(evaluation, depth), evaluation["puzzles"])
    if by_majority(evaluation):
        value += f" ({selection(evaluation)})"
    return value + (f" at {evaluation['metrics'][depth]['nfe/mean']:.1f}" if number.get("streaming") else "")


def comparison(task: Record, paper: Record, recorded: Sequence[Record]) -> str:
    """The paper's numbers of a task, ours beside them: a line for every run."""
    rows = []
    for number in task["numbers"]:
        depth, breadth = (str(number.get(name, 1)) for name in ("depth", "breadth"))
        row = [_model(number, number["model"]), f"`{number['config']}`", depth, breadth, _theirs(number)]
        row += [paper["sources"][number["source"]]]
        found = measured(number, task, recorded)
        for run, evaluation in found:
            ours = [_value(number, evaluation), _how(paper, evaluation), _link(run)]
            rows.append([*row, *ours, steps(run, recorded)])
            row = [""] * len(row)
        if not found:
            rows.append([*row, "not run", "", "", ""])
    head = ["model", "config", "depth", "breadth", "paper", "where", "ours ± standard error", "on", "run", "steps"]
    sets = f"Exact accuracy in percent. Test set of the paper: {task['paper_test_set']}; ours: {task['our_test_set']}."
    return f"{sets} {task['remark']}\n\n{table(head, rows, 'llrrrlrllr')}"


def summary(paper: Record, recorded: Sequence[Record]) -> str:
    """The few numbers for the repository's front page: of several runs the first one's, which ships where one does."""
    rows = []
    for task in (paper[name] for name in TASKS):
        for number in (number for number in task["numbers"] if number.get("summary")):
            depth, breadth = (str(number.get(name, 1)) for name in ("depth", "breadth"))
            row = [_model(number, f"`{number['config']}`"), depth, breadth, _theirs(number)]
            ours = ["not run", "", ""]
            for run, evaluation in measured(number, task, recorded)[:1]:
                ours = [_value(number, evaluation), f"{evaluation['puzzles']:,}", steps(run, recorded)]
            rows.append([*row, *ours])
    head = ["config", "depth", "breadth", "paper", "ours ± standard error"]
    head += ["puzzles (Sudoku: not the paper's)", "our steps"]
    return table(head, rows, "lrrrrrr")


def _by_depth(values: dict[str, float]) -> list[str]:
    """Shares in percent at each of DEPTHS that is there."""
    return [f"{100 * values[str(depth)]:.1f}" if str(depth) in values else "" for depth in DEPTHS]


def side_by_side(task: Record, paper: Record, recorded: Sequence[Record]) -> str:
    """All runs of a task by depth, those with as many starts together; of several evaluations the widest."""
    rows = []
    for breadth in (1, 8, 32, 128):
        for run in of_task(task, recorded):
            for one in widest({"breadth": breadth}, task, run):
                row, on = [run["name"], steps(run, recorded)], _how(paper, one)
                rows.append([*row, way(one), on, *_by_depth({depth: exact(one, depth) for depth in one["metrics"]})])
                if breadth > 1:
                    majority = {d: m["selection/majority/exact_accuracy"] for d, m in one["metrics"].items()}
                    rows.append([*row, f"majority of {breadth}", on, *_by_depth(majority)])
    head = ["run", "steps", "answer", "on", *(f"depth {depth}" for depth in DEPTHS)]
    return table(head, rows, "lrll" + "r" * len(DEPTHS)) if rows else "not run\n"


def trained(recorded: Sequence[Record]) -> str:
    """A line for every run."""
    rows = []
    for run in recorded:
        hours = (spent_before(run, recorded, "gpu_seconds") + run["gpu_seconds"]) / 3600
        row = [_link(run), f"`{run['config']['run_name']}`", str(run["seed"])]
        row += [steps(run, recorded), f"{hours:.2f}"]
        rows.append([*row, run["hardware"], f"`{run['commit']}`", run["note"] or ""])
    head = ["run", "config", "seed", "steps", "GPU hours", "hardware", "commit", "note"]
    return table(head, rows, "llrrrlll") if rows else "not run\n"


def way(one: Record) -> str:
    """How an evaluation came to its answers, in words."""
    return ("streaming, " if one["settings"]["streaming"] else "") + selection(one)


def _noise(one: Record) -> str:
    noise = one["settings"]["noise_scale"]
    return "-" if noise is None else f"{noise:g}"


def _machine(one: Record) -> str:
    """Such as "H200, float8": what an evaluation ran on."""
    device = "CPU" if one["device"] == "cpu" else one["device"].removeprefix("NVIDIA ")
    return device + (", float8" if "kernels" in one["settings"] else "")


def evaluated(paper: Record, recorded: Sequence[Record]) -> str:
    """A line for every evaluation, at its last depth."""
    rows = []
    for run in recorded:
        for one in run["evaluations"]:
            depth = max(one["metrics"], key=int)
            metrics = one["metrics"][depth]
            row = [run["name"], depth, way(one), _noise(one), _on(paper, one)]
            vote = metrics.get("selection/majority/exact_accuracy")
            row += [percent(exact(one, depth), one["puzzles"]), "" if vote is None else f"{100 * vote:.2f}"]
            row += [f"{metrics['nfe/mean']:.1f}"]
            row += [f"{metrics['all/q_halt_accuracy']:.2%}", f"{metrics['all/q_halt_ece']:.2%}"]
            rows.append([*row, f"{one['work']['process_seconds']:,.0f}", _machine(one)])
    head = ["run", "depth", "answer", "noise", "puzzles", "exact, % ± standard error", "majority, %", "NFE"]
    head += ["q_halt acc.", "calibration error", "seconds of work (all depths)", "on"]
    return table(head, rows, "lrlrlrrrrrrl") if rows else "not run\n"


def grouped(recorded: Sequence[Record]) -> str:
    """A line for every group of puzzles of an evaluation that was tabulated by groups, at its last depth."""
    rows = []
    for run in recorded:
        for one in run["evaluations"]:
            training = " training" if one["settings"]["split"] == "train" else ""
            several = "majority" if by_majority(one) else "best_converged"
            name = "exact_accuracy" if one["settings"]["different_init"] == 1 else several
            for column, by_depth in one["by"].items():
                depth = max(by_depth, key=int)
                for group in by_depth[depth]:
                    value = percent(group[name]["share"], group[name]["puzzles"]) if name in group else "-"
                    puzzles = f"{group['puzzles']:,}{training}"
                    rows.append([run["name"], depth, way(one), _noise(one), column, group["group"], puzzles, value])
    head = ["run", "depth", "answer", "noise", "by", "group", "puzzles", "exact, % ± standard error"]
    return table(head, rows, "lrlrllrr") if rows else "not run\n"


def commands(recorded: Sequence[Record]) -> str:
    """What trains and evaluates every run again, those first that others went on from."""
    lines = []
    for run in sorted(recorded, key=lambda run: len(chain(run, recorded))):
        words = training_words(run, chain(run, recorded)[1:], f"RUN_DIR_OF_{run.get('after')}")
        lines += [f"# {run['name']}", f"bash scripts/train.sh {shlex.join(words)}"]
        lines += [
            f"bash scripts/eval.sh RUN_DIR {shlex.join(evaluation_words(run, one))}" for one in run["evaluations"]
        ]
    return "```bash\n" + "\n".join(lines) + "\n```\n" if lines else "not run\n"


def figures(paper: Record, recorded: Sequence[Record]) -> list[str]:
    """The tasks that have something to draw: an evaluation on the task's own test puzzles."""
    there = {
        (run["config"]["dataset"]["data_path"], one["dataset"])
        for run in recorded
        for one in run["evaluations"]
        if one["settings"]["split"] == "test"
    }
    return [name for name in TASKS if (f"data/{paper[name]['data']}", paper[name]["data"]) in there]


def blocks(paper: Record, recorded: Sequence[Record]) -> dict[str, str]:
    """The text of every block by name."""
    drawn = figures(paper, recorded)
    found = {name: comparison(paper[name], paper, recorded) for name in TASKS}
    found |= {name: f"{found[name]}\n![Accuracy against depth]({name}.png)\n" for name in drawn}
    found |= {f"{name}_depths": side_by_side(paper[name], paper, recorded) for name in TASKS}
    found |= {"summary": summary(paper, recorded), "runs": trained(recorded), "groups": grouped(recorded)}
    return found | {"evaluations": evaluated(paper, recorded), "commands": commands(recorded)}
