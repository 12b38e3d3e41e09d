"""Records a run.

python -m reproduction.record NAME RUN_DIR [EVAL_DIR ...] [--after NAME] [--hardware TEXT] [--note TEXT]
python -m reproduction.record NAME EVAL_DIR ... [--note TEXT]    # more of it

Writes results/runs/NAME.json: configuration, commit, seed, hardware, versions, seconds, the training curve, and every
evaluation. Given again with more evaluations it adds them, and puts those of equal settings in place of the old ones,
without RUN_DIR too, so that evaluations of a shipped checkpoint can be added.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from config.command import command
from config.load import choices, validate
from config.schema import PretrainConfig
from evaluation.results import read_results
from reproduction.recorded import FROM_ARCH, RUNS, Record, chain, portable, read, runs, with_all
from runtime.files import write_whole

POINTS = 300
"""The training curve has at most so many points; each is the mean over the log lines up to its step."""
_NO_NUMBER_CHANGES = {
    *("checkpoint", "dataset_data_path", "eval_dir", "shard", "max_eval_steps"),
    *("device", "attention", "compile", "cuda_graphs"),
}
"""Settings of an evaluation that are places, or ways to compute the same. Of `kernels` only float8 is kept."""
_FIRST, _THEN = ("step", "weights"), ("device", "processes", "backend", "versions", "seconds", "work")
"""What stands in a record as results.json says it."""


def _log(directory: Path) -> list[dict[str, float]]:
    file = directory / "metrics.jsonl"
    if not file.is_file():
        raise ValueError(f"{directory} is no run's folder: it has no metrics.jsonl")
    try:
        lines = [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error})") from None
    if not all("step" in line for line in lines):
        raise ValueError(f"{file} is damaged (a line without a step)")
    if not any("train/lm_loss" in line for line in lines):
        raise ValueError(f"{file} has no training steps yet")
    return lines


def training_time(log: Sequence[dict[str, float]], batch: int) -> tuple[float, float]:
    """(seconds, seconds x processes) of the training steps in a log, evaluations apart; resumed slices add up.

    A line that does not say what all processes spent (`train/process_seconds`) is taken to be of one.
    """
    wall = spent = step = 0.0
    for line in log:
        if "train/samples_per_second" in line:
            seconds = (line["step"] - step) * batch / line["train/samples_per_second"]
            wall, step = wall + seconds, line["step"]
            spent += line.get("train/process_seconds", seconds)
    return round(wall, 1), round(spent, 1)


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(f"{sum(there) / len(there):.6g}") if there else None


def curves(log: Sequence[dict[str, float]]) -> Record:
    """The training curve, thinned, and the evaluations on the way, each as columns and rows."""
    train = [line for line in log if "train/lm_loss" in line]
    every = -(-len(train) // POINTS)
    columns = ("train/lm_loss", "train/exact_accuracy", "train/steps")
    parts = [train[i : i + every] for i in range(0, len(train), every)]
    rows = [[part[-1]["step"], *(_mean([line.get(name) for line in part]) for name in columns)] for part in parts]
    seen = {  # the last one, of all, may be both
        (line["step"], line[f"{group}/puzzles"]): _mean([line[f"{group}/all/exact_accuracy"]])
        for line in log
        for group in ("eval", "final")
        if f"{group}/puzzles" in line
    }
    return {
        "training": {"columns": ["step", *columns], "rows": rows},
        "evaluations_on_the_way": {
            "columns": ["step", "puzzles", "exact_accuracy"],
            "rows": [[*of, exact] for of, exact in seen.items()],
        },
    }


def run_config(directory: Path) -> PretrainConfig:
    """A run's configuration, portable. Raises ValueError, in one sentence that names the file, where it is none."""
    file = directory / "config.yaml"
    try:
        values = yaml.safe_load(file.read_text())
    except (ValueError, yaml.YAMLError):
        values = None
    if not isinstance(values, dict):
        raise ValueError(f"{file} holds no configuration of a run")
    try:
        return portable(validate(PretrainConfig, values))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def evaluation(directory: Path, arch: Record) -> Record:
    """What an evaluation's folder says.

    Args:
        directory: where evaluate.py wrote, and perhaps evaluation.by_group.
        arch: the model that the run trained.

    Raises:
        ValueError: there is no evaluation, or it is of another model.
    """
    names = ("arch", "settings", "dataset", *_FIRST, *_THEN)
    found = with_all(read_results(directory), directory / "results.json", names)
    if {**found["arch"], **{name: arch.get(name) for name in FROM_ARCH if name in arch}} != arch:
        raise ValueError(f"{directory} evaluates another model than this run's")
    settings = {name: value for name, value in found["settings"].items() if name not in _NO_NUMBER_CHANGES}
    settings |= {name: found["arch"].get(name) for name in FROM_ARCH}
    if settings.pop("kernels", None) == "float8":
        settings["kernels"] = "float8"
    puzzles = int(next(iter(found["metrics"].values()))["puzzles"])
    limited = found["settings"]["max_puzzles"] or found["settings"]["max_eval_steps"]
    settings["max_puzzles"] = puzzles if limited else None
    return {
        "dataset": Path(found["dataset"]).name,
        "puzzles": puzzles,
        **{name: found[name] for name in _FIRST},
        "settings": settings,
        **{name: found[name] for name in _THEN},
        "metrics": {
            depth: {name: value for name, value in values.items() if not re.match("all/z[HL]_", name)}
            for depth, values in found["metrics"].items()
        },
        "by": {file.stem.removeprefix("by_"): read(file) for file in sorted(directory.glob("by_*.json"))},
    }


def _which(evaluation: Record) -> str:
    """Of evaluations that have this in common, the last is kept."""
    settings = evaluation["settings"] | {"per_puzzle": None}  # which changes no number
    return json.dumps([evaluation["dataset"], evaluation["puzzles"], evaluation["weights"], settings])


def with_evaluations(found: Record, folders: Sequence[Path]) -> Record:
    """A record with the evaluations in these folders too. Raises ValueError where one is not of the run's end."""
    kept = {_which(one): one for one in found["evaluations"]}
    for folder in folders:
        one = evaluation(folder, found["config"]["arch"])
        if one["step"] != found["steps"]:
            raise ValueError(f"{folder} evaluates step {one['step']}, but the run is at step {found['steps']}")
        kept[_which(one)] = one
    return found | {"evaluations": list(kept.values())}


def record(directory: Path, evaluations: Sequence[Path], earlier: Record | None = None, **given: Any) -> Record:
    """A run and its evaluations, fit for JSON.

    Args:
        directory: the run's folder.
        evaluations: folders that evaluate.py wrote.
        earlier: what was recorded of the run before: its evaluations are kept, and what is not `given` anew.
        given: `after` (the recorded run from whose end it went on), `hardware`, `commit` (for a run whose folder does
            not know it), `note`; None: not given.

    Raises:
        ValueError: one sentence: a folder is not what it should be, or `earlier` is of another run.
    """
    log = _log(directory)
    config = run_config(directory)
    if earlier is not None and portable(validate(PretrainConfig, earlier["config"])) != config:
        raise ValueError(f"{directory} is another run than the one recorded as {earlier['name']}: give another name")
    versions = read(directory / "versions.json", "commit")
    commit = versions.pop("commit")
    names = ("after", "hardware", "note", "commit")
    said = {name: given.get(name) or (earlier or {}).get(name) for name in names}
    wall, spent = training_time(log, config.global_batch_size)
    found = {
        "name": directory.name,
        "after": said["after"],
        "config": config.model_dump(mode="json"),
        "seed": config.seed,
        "commit": said["commit"] or "unknown" if commit == "unknown" else commit,
        "hardware": said["hardware"] or "not recorded",
        "versions": versions,
        "note": said["note"],
        "steps": log[-1]["step"],
        "seconds": wall,
        "gpu_seconds": spent,
        **curves(log),
        "evaluations": (earlier or {"evaluations": []})["evaluations"],
    }
    return with_evaluations(found, evaluations)


def to_text(found: Record) -> str:
    """A record as JSON, lists of numbers on a line of their own."""
    text = json.dumps(found, indent=1)
    return re.sub(r"\[[^][{}\"]*\]", lambda numbers: " ".join(numbers[0].split()), text) + "\n"


@command()
def main(words: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m reproduction.record", description="Record a run and its evaluations."
    )
    parser.add_argument("name", metavar="NAME", help="results/runs/NAME.json is written")
    said = "the folder of the run, which may be left out once it is recorded, and those of its evaluations"
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help=said)
    parser.add_argument("--after", help="the recorded run from whose end, or from whose weights, it went on")
    parser.add_argument("--hardware", help="what it was trained on, such as '1 x H200'")
    parser.add_argument("--commit", help="for a run whose folder does not say of which commit it is")
    parser.add_argument("--note", help="whatever else a reader should know")
    given = parser.parse_args(words)
    file = RUNS / f"{given.name}.json"
    if not re.fullmatch(r"[\w.+-]*[\w+-][\w.+-]*", given.name):
        what = "letters, digits and any of . + - _, not dots alone"
        raise ValueError(f"NAME should be {what}, but it is {given.name!r}")
    earlier = read(file) if file.exists() else None
    more = {name: vars(given)[name] for name in ("after", "hardware", "commit", "note")}
    first, *evaluations = given.folders
    if earlier is None or not (first / "results.json").is_file():
        found = record(first, evaluations, earlier, **more) | {"name": given.name}
    elif any(more[name] for name in more if name != "note"):
        raise ValueError("--after, --hardware and --commit are of the run: give RUN_DIR too")
    else:
        found = with_evaluations(earlier | {"note": given.note or earlier["note"]}, given.folders)
    if (name := found["config"]["run_name"]) not in choices("train"):
        raise ValueError(f"{first} has run_name={name}, but a record is of a recipe in config/train")
    if found["config"]["load_checkpoint"] and not found["after"]:
        raise ValueError(f"{first} began from weights: say with --after of which recorded run")
    chain(found, runs(RUNS))
    file.parent.mkdir(exist_ok=True)
    write_whole(file, to_text(found))
    print(
        f"{file}: {found['steps']} steps, {len(found['evaluations'])} evaluations; next: python -m reproduction.tables"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
