"""What results/runs/*.json say: accuracies with their errors, and the commands that repeat a run.

Accuracies are shares, 0 to 1.
"""

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from config.load import KEPT, load_pretrain, validate
from config.schema import EvalConfig, PretrainConfig

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "results" / "runs"

Record = dict[str, Any]
"""A run as `reproduction.record` writes it, or one of its evaluations."""

FROM_ARCH = ("lambda_", "noise_scale", "H_init_std", "L_init_std", "forward_dtype")
"""Settings of an evaluation that are the model's own unless it is asked for others."""

STARTS_STD = EvalConfig.model_fields["different_init_reset_std"].default
"""That of the random starts of a model that did not learn from random ones, unless it is asked for another."""


def read(file: Path, *names: str) -> Record:
    """The JSON object in a file. Raises ValueError, in one sentence, where it lacks one of `names` or is none."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{file} is missing, or holds no JSON object")
    return with_all(found, file, names)


def with_all(found: Record, file: Path, names: Sequence[str]) -> Record:
    """What a file holds. Raises ValueError, in one sentence, if it lacks one of `names`."""
    for name in names:
        if name not in found:
            raise ValueError(f"{file} should hold {name!r}, but it does not")
    return found


def runs(folder: Path = RUNS) -> list[Record]:
    """All recorded runs, in the order of their names."""
    return [read(file, "name", "config", "evaluations") for file in sorted(folder.glob("*.json"))]


def portable(config: PretrainConfig) -> PretrainConfig:
    """The configuration as another machine would use it: data in data/, and not how the run was sliced or watched."""
    values = config.model_dump()
    values["dataset"]["data_path"] = f"data/{Path(config.dataset.data_path).name}"
    values["load_checkpoint"] = config.load_checkpoint and Path(config.load_checkpoint).name
    for name in ("checkpoint_path", "resume", "max_seconds", "project_name", "entity", "wandb_mode", "device"):
        values[name] = PretrainConfig.model_fields[name].default
    return validate(PretrainConfig, values)


def by_majority(evaluation: Record) -> bool:
    """Whether the majority of several starts answers (see `exact`)."""
    return bool(evaluation["settings"]["streaming"]) and evaluation["settings"]["different_init"] > 1


def exact(evaluation: Record, depth: int | str) -> float:
    """Exact accuracy at a depth: of a single start, or of the best converged where several were compared.

    In a streaming evaluation it is the majority's: a start that leaves once it is sure was still moving, so that its
    convergence score is worse than that of one which settled on something wrong.
    """
    metrics = evaluation["metrics"][str(depth)]
    if by_majority(evaluation):
        return float(metrics["selection/majority/exact_accuracy"])
    return float(metrics.get("convergence_top_k/cumulative_exact_acc_top1", metrics["all/exact_accuracy"]))


def selection(evaluation: Record) -> str:
    """What `exact` is over, in words."""
    settings = evaluation["settings"]
    breadth, std = settings["different_init"], settings["different_init_reset_std"]
    if breadth == 1:
        return "one start"
    how = "majority" if by_majority(evaluation) else "best converged" if settings["convergence_top_k"] else "mean"
    return f"{how} of {breadth}" + ("" if std == STARTS_STD else f" starts of std {std:g}")


def standard_error(share: float, puzzles: int) -> float:
    """The binomial standard error of a share of so many puzzles."""
    return math.sqrt(share * (1 - share) / puzzles)


def chance(share: float, puzzles: int, other: float, others: int) -> float:
    """How probable a difference so large is where both shares measure the same: Fisher's exact test, two-sided."""

    def ways(of: int, chosen: int) -> float:  # the logarithm of their number
        return math.lgamma(of + 1) - math.lgamma(chosen + 1) - math.lgamma(of - chosen + 1)

    seen = round(share * puzzles)
    right = seen + round(other * others)
    there = range(max(0, right - others), min(puzzles, right) + 1)
    logs = {here: ways(puzzles, here) + ways(others, right - here) - ways(puzzles + others, right) for here in there}
    return min(1.0, math.fsum(math.exp(log) for log in logs.values() if log <= logs[seen] + 1e-6))


def percent(share: float, puzzles: int) -> str:
    """Such as "93.02 ± 0.23", in percent; where all or none are solved, with a bound of 95% confidence."""
    least = 100 * 0.05 ** (1 / puzzles)
    if share in (0, 1):
        return f"100.00 (> {least:.2f})" if share else f"0.00 (< {100 - least:.2f})"
    return f"{100 * share:.2f} ± {100 * standard_error(share, puzzles):.2f}"


def _differences(config: Record, base: Record, prefix: str = "") -> list[str]:
    words: list[str] = []
    for name, value in config.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            words += _differences(value, base[name], f"{prefix}{name}.")
        elif value != base.get(name):
            words.append(word(prefix + name, value))
    return words


def word(name: str, value: object) -> str:
    """`name=value` for the command line, whatever characters are in it."""
    return f"{name}={json.dumps(value, separators=(',', ':'), ensure_ascii=False)}"


def chain(run: Record, recorded: Sequence[Record]) -> list[Record]:
    """A run, the recorded run from whose end it went on, the one from whose end that did, and so on.

    Raises:
        ValueError: one is not among `recorded`, or they go on from each other.
    """
    by_name, found = {one["name"]: one for one in recorded}, [run]
    while after := found[-1].get("after"):
        if after not in by_name or after in [one["name"] for one in found]:
            why = "which is not recorded" if after not in by_name else "which went on from it"
            raise ValueError(f"{found[-1]['name']} went on from {after}, {why}")
        found.append(by_name[after])
    return found


def _from_weights(run: Record, earlier: Record) -> bool:
    """Whether a run began from another's weights, or else was that one resumed, which keeps its configuration."""
    kept = all(run["config"][name] == earlier["config"][name] for name in (*KEPT, "load_checkpoint"))
    return run["config"]["load_checkpoint"] is not None and not (kept and run["steps"] > earlier["steps"])


def training_words(run: Record, earlier: Sequence[Record] = (), directory: str = "RUN_DIR") -> list[str]:
    """What `scripts/train.sh` must be given to train a recorded run again, up to the step at which it ended.

    Where the learning rate falls, a run that was stopped before its end is another one than this trains.

    Args:
        run: the record.
        earlier: the rest of its `chain`: it went on as the first of these, or from its weights.
        directory: the folder of that one.
    """
    config, name = run["config"] | {"max_steps": run["steps"]}, run["config"]["run_name"]
    if earlier and not _from_weights(run, earlier[0]):
        return [f"resume={directory}", *_differences(config, earlier[0]["config"] | {"max_steps": earlier[0]["steps"]})]
    if earlier:
        config |= {"load_checkpoint": directory}
    return [name, *_differences(config, portable(load_pretrain([f"train={name}"])).model_dump(mode="json"))]


def spent_before(run: Record, recorded: Sequence[Record], name: str) -> float:
    """How many `steps` or `gpu_seconds` went into the weights that a run began from; a resumed one counts its own."""
    return sum(
        float(earlier[name]) for later, earlier in pairwise(chain(run, recorded)) if _from_weights(later, earlier)
    )


def steps(run: Record, recorded: Sequence[Record]) -> str:
    """How many steps it was trained, such as "50,000 + 18,000" where it began from another run's weights."""
    before = spent_before(run, recorded, "steps")
    return (f"{before:,.0f} + " if before else "") + f"{run['steps']:,}"


def evaluation_words(run: Record, evaluation: Record) -> list[str]:
    """What `scripts/eval.sh` must be given, besides the checkpoint, to evaluate as was recorded."""
    usual = {name: field.default for name, field in EvalConfig.model_fields.items()}
    usual |= {name: run["config"]["arch"].get(name) for name in FROM_ARCH}
    data = f"data/{evaluation['dataset']}"
    other = [] if data == run["config"]["dataset"]["data_path"] else [f"dataset_data_path={data}"]
    return _differences(evaluation["settings"], usual) + other
