"""Records a run.

python -m reproduction.record NAME RUN_DIR [EVAL_DIR ...] [--after NAME] [--hardware TEXT] [--note TEXT]
python -m reproduction.record NAME EVAL_DIR ... [--note TEXT]    # more of it

Writes results/runs/NAME.json: configuration, commit, seed, hardware, versions, seconds, the training curve and every
evaluation. Given again with more evaluations, it adds them. An evaluation of equal settings replaces the old one.
RUN_DIR may be left out then, so that evaluations of a shipped checkpoint can be added.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from config.command import command
from config.fields import Role, keys
from config.json_file import read_json
from config.load import validate
from config.schema import EvalConfig, PretrainConfig
from config.words import choices
from config.yaml_file import read_yaml
from evaluation.results import read_results
from reproduction.records import (
    FROM_ARCH,
    RUNS,
    Curve,
    Evaluation,
    Record,
    chain,
    portable,
    read_record,
    read_records,
    to_text,
)
from runtime.files import write_whole
from runtime.run_log import METRICS, read_metrics

POINTS = 300
"""The training curve has at most so many points; each is the mean over the log lines up to its step."""
_AS_THEY_ARE = ("step", "weights", "device", "processes", "backend", "versions", "seconds", "work")
"""What a record repeats from results.json."""


def _log(directory: Path) -> list[dict[str, float]]:
    file = directory / METRICS
    if not file.is_file():
        raise ValueError(f"{directory} is no run's folder: it has no {METRICS}")
    lines = read_metrics(file)
    if not any("train/lm_loss" in line for line in lines):
        raise ValueError(f"{file} has no training steps yet")
    return lines


def training_time(log: Sequence[dict[str, float]], batch: int) -> tuple[float, float]:
    """(seconds, seconds x processes) of the training steps in a log, without evaluations; resumed slices add up.

    A line without `train/process_seconds`, the time of all processes, counts as one process.
    """
    wall = spent = step = 0.0
    for line in log:
        if rate := line.get("train/samples_per_second"):
            seconds = (line["step"] - step) * batch / rate
            wall, step = wall + seconds, line["step"]
            spent += line.get("train/process_seconds") or seconds
    return round(wall, 1), round(spent, 1)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(f"{sum(known) / len(known):.6g}") if known else None


def training_curve(log: Sequence[dict[str, float]]) -> Curve:
    """Loss, accuracy and iterations by step, thinned to `POINTS`."""
    lines = [line for line in log if "train/lm_loss" in line]
    every = -(-len(lines) // POINTS)
    columns = ["train/lm_loss", "train/exact_accuracy", "train/steps"]
    parts = [lines[i : i + every] for i in range(0, len(lines), every)]
    rows = [[part[-1]["step"], *(_mean([line.get(name) for line in part]) for name in columns)] for part in parts]
    return Curve(columns=["step", *columns], rows=rows)


def evaluations_on_the_way(log: Sequence[dict[str, float]]) -> Curve:
    """Exact accuracy of the quick and of the final evaluations by step."""
    exact = {  # the last step has both, perhaps of equally many puzzles
        (line["step"], line[f"{group}/puzzles"]): _mean([line.get(f"{group}/all/exact_accuracy")])
        for line in log
        for group in ("eval", "final")
        if line.get(f"{group}/puzzles") is not None
    }
    rows = [[step, puzzles, share] for (step, puzzles), share in exact.items()]
    return Curve(columns=["step", "puzzles", "exact_accuracy"], rows=rows)


def run_config(directory: Path) -> PretrainConfig:
    """A run's configuration, portable. Raises ValueError, in one sentence that names the file, if there is none."""
    file = directory / "config.yaml"
    return portable(validate(PretrainConfig, read_yaml(file), file))


def evaluation(directory: Path, config: PretrainConfig) -> Evaluation:
    """The evaluation in a folder.

    Args:
        directory: where evaluate.py wrote, and perhaps evaluation.by_group.
        config: the configuration of the run.

    Raises:
        ValueError: there is no evaluation, or it is of another model.
    """
    file, results, trained = directory / "results.json", read_results(directory), config.arch.model_dump(mode="json")
    for name in ("arch", "settings", "dataset", *_AS_THEY_ARE):
        if name not in results:
            raise ValueError(f"{file} should hold {name!r}, but it does not")
    arch = results["arch"]
    own = {name: trained[name] for name in FROM_ARCH if name in trained}
    if arch | own != {name: trained.get(name) for name in arch}:  # an older evaluation does not know newer keys
        raise ValueError(f"{directory} evaluates another model than this run's")
    dropped = keys(EvalConfig, Role.LOCAL, Role.COMPUTE)
    settings = {name: value for name, value in results["settings"].items() if name not in dropped}
    settings |= {name: arch.get(name) for name in FROM_ARCH}
    if settings.pop("kernels", None) == "float8":
        settings["kernels"] = "float8"
    puzzles = int(next(iter(results["metrics"].values()))["puzzles"])
    limited = results["settings"].get("max_puzzles") or results["settings"].get("max_eval_steps")
    settings["max_puzzles"] = puzzles if limited else None
    metrics = {
        depth: {name: value for name, value in values.items() if not re.match("all/z[HL]_", name)}
        for depth, values in results["metrics"].items()
    }
    by = {group.stem.removeprefix("by_"): read_json(group, dict) for group in sorted(directory.glob("by_*.json"))}
    facts = {name: results[name] for name in _AS_THEY_ARE}
    facts |= {"dataset": Path(results["dataset"]).name, "puzzles": puzzles, "settings": settings}
    return validate(Evaluation, facts | {"metrics": metrics, "by": by}, file)


def _key(evaluation: Evaluation) -> str:
    """Equal for two evaluations of the same puzzles, weights and settings."""
    settings = evaluation.settings.model_dump(mode="json", exclude={"per_puzzle"})  # which changes no number
    return json.dumps([evaluation.dataset, evaluation.puzzles, evaluation.weights, settings])


def with_evaluations(record: Record, folders: Sequence[Path]) -> Record:
    """The record, with the evaluations in these folders. Raises ValueError if one is not of the run's last step."""
    kept = {_key(earlier): earlier for earlier in record.evaluations}
    for folder in folders:
        new = evaluation(folder, record.config)
        if new.step != record.steps:
            raise ValueError(f"{folder} evaluates step {new.step}, but the run is at step {record.steps}")
        kept[_key(new)] = new
    return record.model_copy(update={"evaluations": list(kept.values())})


def record(
    name: str,
    directory: Path,
    evaluations: Sequence[Path],
    earlier: Record | None = None,
    *,
    after: str | None = None,
    hardware: str | None = None,
    commit: str | None = None,
    note: str | None = None,
) -> Record:
    """The record of a run and its evaluations.

    Args:
        name: the record's.
        directory: the run's folder.
        evaluations: folders that evaluate.py wrote.
        earlier: the record of the same run before. Its evaluations stay, and so does what is None below.
        after: the recorded run from whose end, or from whose weights, this one went on.
        hardware: what it was trained on.
        commit: for a run whose folder does not know it.
        note: whatever else a reader should know.

    Raises:
        ValueError: one sentence: a folder is not what it should be, or `earlier` is of another run.
    """
    log, config = _log(directory), run_config(directory)
    if earlier is not None and portable(earlier.config) != config:
        raise ValueError(f"{directory} is another run than the one recorded as {earlier.name}: give another name")
    versions = read_json(file := directory / "versions.json", dict)
    if "commit" not in versions:
        raise ValueError(f"{file} should hold 'commit', but it does not")
    if (known := versions.pop("commit")) == "unknown":
        known = commit or (earlier.commit if earlier else "unknown")
    seconds, gpu_seconds = training_time(log, config.global_batch_size)
    facts: dict[str, Any] = {
        "name": name,
        "after": after or (earlier.after if earlier else None),
        "config": config,
        "seed": config.seed,
        "commit": known,
        "hardware": hardware or (earlier.hardware if earlier else "not recorded"),
        "versions": versions,
        "note": note or (earlier.note if earlier else None),
        "steps": log[-1]["step"],
        "seconds": seconds,
        "gpu_seconds": gpu_seconds,
        "training": training_curve(log),
        "evaluations_on_the_way": evaluations_on_the_way(log),
        "evaluations": earlier.evaluations if earlier else [],
    }
    return with_evaluations(validate(Record, facts, directory), evaluations)


@command()
def main(words: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m reproduction.record", description="Record a run and its evaluations."
    )
    parser.add_argument("name", metavar="NAME", help="results/runs/NAME.json is written")
    folders = "the folder of the run, which may be left out once it is recorded, and those of its evaluations"
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help=folders)
    parser.add_argument("--after", help="the recorded run from whose end, or from whose weights, it went on")
    parser.add_argument("--hardware", help="what it was trained on, such as '1 x H200'")
    parser.add_argument("--commit", help="for a run whose folder does not say of which commit it is")
    parser.add_argument("--note", help="whatever else a reader should know")
    given = parser.parse_args(words)
    file = RUNS / f"{given.name}.json"
    if not re.fullmatch(r"[\w.+-]*[\w+-][\w.+-]*", given.name):
        allowed = "letters, digits and any of . + - _, not dots alone"
        raise ValueError(f"NAME should be {allowed}, but it is {given.name!r}")
    earlier = read_record(file) if file.exists() else None
    of_the_run = {"after": given.after, "hardware": given.hardware, "commit": given.commit}
    first, *evaluations = given.folders
    if earlier is None or not (first / "results.json").is_file():
        new = record(given.name, first, evaluations, earlier, note=given.note, **of_the_run)
    elif any(of_the_run.values()):
        raise ValueError("--after, --hardware and --commit are of the run: give RUN_DIR too")
    else:
        noted = earlier.model_copy(update={"note": given.note}) if given.note else earlier
        new = with_evaluations(noted, given.folders)
    if new.recipe not in choices("train"):
        raise ValueError(f"{first} has run_name={new.recipe}, but a record is of a recipe in config/train")
    if new.config.load_checkpoint and not new.after:
        raise ValueError(f"{first} began from weights: say with --after of which recorded run")
    chain(new, read_records(RUNS))
    file.parent.mkdir(exist_ok=True)
    write_whole(file, to_text(new))
    print(f"{file}: {new.steps} steps, {len(new.evaluations)} evaluations; next: python -m reproduction.tables")


if __name__ == "__main__":
    main(sys.argv[1:])
