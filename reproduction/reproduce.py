"""Runs a recorded experiment again, or checks its shipped checkpoint: see scripts/reproduce.sh."""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from config.command import command
from config.load import load_pretrain
from config.words import choices
from dataset.layout import read_split
from reproduction.accuracy import chance, exact, percent, selection
from reproduction.commands import evaluation_words, training_words, word
from reproduction.programs import BUILDERS, build, is_built, script, trained
from reproduction.recipes import LADDER, reproduce_recipe, require_same, rung
from reproduction.record import evaluation, record, run_config
from reproduction.records import ROOT, RUNS, Evaluation, Record, chain, read_record, read_records, to_text
from runtime.files import write_whole

RARE = 0.0027
"""A check fails if chance makes a difference so large less often. For a normal it is three standard errors."""
CSVS = ("train.csv", "test.csv")
CPU_DEPTH = 16
"""A check on a CPU goes no deeper."""


class Check(NamedTuple):
    """How a shipped checkpoint is checked: on which data set, and on how many of its test puzzles on a CPU.

    Two cores evaluate so many in about two minutes.
    """

    dataset: str
    cpu_puzzles: int


SHIPPED = {
    "maze_unique": Check("maze-30x30-unique-1k", 80),
    "maze_unique_small": Check("maze-30x30-unique-1k", 200),
    "sudoku": Check("sudoku-9x9-check", 90),
}
"""The folders in checkpoints/, by the names of their records."""


def compare(recorded: Evaluation, repeated: Evaluation) -> float:
    """Prints both accuracies at every depth, and the probability of such a difference; returns the least of these."""
    print(f"{repeated.dataset}, {selection(repeated)}, {repeated.puzzles} puzzles (recorded: {recorded.puzzles})")
    print(f"{'depth':>5}  {'recorded, %':>16}  {'here, %':>16}  by chance")
    least = 1.0
    for depth in repeated.metrics:
        before, now = exact(recorded, depth), exact(repeated, depth)
        probability = chance(before, recorded.puzzles, now, repeated.puzzles)
        cells = [percent(before, recorded.puzzles).rjust(16), percent(now, repeated.puzzles).rjust(16)]
        print(f"{depth:>5}  {'  '.join(cells)}  {probability:.2g}")
        least = min(least, probability)
    return least


def _plain(evaluation: Evaluation, dataset: str) -> bool:
    """Whether an evaluation is of one start a puzzle on all test puzzles of a data set, not in 8 bits."""
    settings = evaluation.settings
    return (
        evaluation.dataset == dataset
        and (settings.split, settings.different_init, settings.streaming) == ("test", 1, False)
        and (settings.perturb_std, settings.ema, settings.max_puzzles) == (0, True, None)
        and not evaluation.float8
    )


def check(run: Record, checkpoint: Path, dataset: str, most: int | None, deepest: int | None) -> bool:
    """Evaluates a checkpoint as recorded, with one start a puzzle; whether all accuracies agree, but for chance.

    Args:
        run: the record.
        checkpoint: the file.
        dataset: a folder in data/ that exists.
        most: evaluate so many puzzles, evenly spread (None: all).
        deepest: leave out greater depths (None: none).

    Raises:
        ValueError: the record has nothing to compare with, or is of other puzzles.
    """
    fitting = [evaluation for evaluation in run.evaluations if _plain(evaluation, dataset)]
    if not fitting:
        raise ValueError(f"the record of {run.name} has no evaluation of one start a puzzle on all of {dataset}")
    recorded = max(fitting, key=lambda evaluation: len(evaluation.metrics))
    total = len(read_split(Path("data", dataset), "test").inputs)
    if total != recorded.puzzles:
        raise ValueError(f"data/{dataset} has {total} test puzzles, but {recorded.puzzles} others were recorded")
    if most is not None and most > total:
        raise ValueError(f"--puzzles should be at most {total}, the test puzzles of data/{dataset}, but it is {most}")
    depths = [depth for depth in recorded.metrics if deepest is None or depth <= deepest] or [min(recorded.metrics)]
    words = evaluation_words(run, recorded, halt_max_steps=depths, max_puzzles=most, kernels="auto")
    with tempfile.TemporaryDirectory() as folder:
        script("eval.sh", str(checkpoint), *words, word("eval_dir", folder))
        least = compare(recorded, evaluation(Path(folder), run.config))
    agrees = least >= RARE
    print("as recorded" if agrees else f"NOT as recorded: chance does this in less than {RARE:.2%} of comparisons")
    return agrees


def train(run: Record) -> Path:
    """Trains a recorded run again, and before it the run that it went on from; returns its folder."""
    _, *earlier = chain(run, read_records(RUNS))
    return trained(training_words(run, earlier, str(train(earlier[0])) if earlier else ""))


def _refuse_other(recorded: Evaluation, repeated: Evaluation, folder: Path, total: int) -> None:
    """Raises ValueError if `folder` holds an evaluation of other settings, data or puzzles than the record.

    It may be of fewer puzzles if the test set that is here has only these `total`.
    """
    free = {"max_puzzles", "kernels", "per_puzzle"}
    before, now = (evaluation.settings.model_dump(exclude=free) for evaluation in (recorded, repeated))
    other = [name for name, value in before.items() if now[name] != value]
    other += ["dataset"] * (repeated.dataset != recorded.dataset)
    puzzles = recorded.puzzles if recorded.settings.split == "train" else min(recorded.puzzles, total)
    other += ["number of puzzles"] * (repeated.puzzles != puzzles)
    if other:
        raise ValueError(f"{folder} holds an evaluation with another {other[0]} than the recorded one: remove it")


def reproduce(run: Record, source_dir: Path | None, directory: Path | None) -> Path:
    """Builds, trains (unless `directory` is a run already), evaluates and records; returns the new record's file."""
    if directory is not None and (recipe := run_config(directory).run_name) != run.recipe:
        raise ValueError(f"{directory} is a run of {recipe}, not of {run.recipe}")
    if directory is not None and (step := record(directory.name, directory, []).steps) != run.steps:
        raise ValueError(f"{directory} is at step {step}, but the recorded run ended at step {run.steps}")
    own = Path(run.config.dataset.data_path).name
    possible = [known for known in run.evaluations if known.dataset in (own, *BUILDERS) or is_built(known.dataset)]
    for name in {known.dataset: None for known in run.evaluations if known not in possible}:
        print(f"left out are the evaluations on data/{name}, which is missing and cannot be built")
    datasets = dict.fromkeys([own, *(known.dataset for known in possible)])
    totals = {name: build(name, source_dir if name.startswith("sudoku-extreme") else None) for name in datasets}
    directory = directory or train(run)
    pairs = [(recorded, directory / f"evaluation_{number}") for number, recorded in enumerate(possible)]
    for recorded, folder in pairs:
        if (folder / "results.json").is_file():
            _refuse_other(recorded, evaluation(folder, run.config), folder, totals[recorded.dataset])
        else:  # not every device has float8
            words = evaluation_words(run, recorded, max_puzzles=recorded.puzzles, kernels="auto")
            print(script("eval.sh", str(directory), *words, word("eval_dir", str(folder))))
    new = record(directory.name, directory, [folder for _, folder in pairs], after=run.after)
    write_whole(file := directory / "record.json", to_text(new))
    for recorded, folder in pairs:
        whole, total = recorded.settings.max_puzzles is None, totals[recorded.dataset]
        if whole and recorded.settings.split == "test" and total != recorded.puzzles:
            print(f"the test puzzles are others than those recorded: {total} in data/{recorded.dataset}")
        compare(recorded, evaluation(folder, run.config))
    return file


def _run(given: argparse.Namespace) -> int:
    shipped, on_gpu = SHIPPED.get(given.name), torch.cuda.is_available()
    file, recipes = RUNS / f"{given.name}.json", LADDER if given.name == "ladder" else (given.name,)
    run = read_record(file) if file.is_file() else None
    if run is None and recipes[0] not in choices("train"):
        raise ValueError(f"{file.relative_to(ROOT)} is not there, and no recipe of config/train has this name")
    configs = [run.config] if run else [load_pretrain([f"train={recipe}", *given.words]) for recipe in recipes]
    dataset = Path(configs[0].dataset.data_path).name
    if given.source_dir and not dataset.startswith("sudoku-extreme"):
        raise ValueError("--source-dir goes with runs on Sudoku-Extreme: other data are made here")
    if given.check and given.run or given.puzzles and not given.check:
        raise ValueError("--puzzles goes with --check, and --run without it")
    if given.puzzles is not None and given.puzzles < 1:
        raise ValueError(f"--puzzles should be 1 or more, but it is {given.puzzles}")
    if given.check and not shipped:
        raise ValueError(f"--check goes with what ships ({', '.join(SHIPPED)}), and {given.name} does not")
    if given.words and (run or given.run):
        raise ValueError(f"{given.words[0]} goes with the training of a recipe that has no record, and not with --run")
    if given.run and len(recipes) > 1:
        raise ValueError(f"--run goes with one of {', '.join(recipes)}")
    if given.words and [config.run_name for config in configs] != [*recipes]:
        raise ValueError("train and run_name stay the recipe's own, since the record is of a recipe in config/train")
    configs = [rung(config) for config in configs] if given.name == "ladder" else configs
    if given.source_dir and (missing := [name for name in CSVS if not (given.source_dir / name).is_file()]):
        raise ValueError(
            f"--source-dir should hold {' and '.join(CSVS)}, but {given.source_dir / missing[0]} is missing"
        )
    if not (on_gpu or given.check or given.run):
        raise ValueError("training needs a GPU, and there is none here; --check and --run RUN_DIR work without one")
    if run is None:
        for config in configs:
            require_same(config)
        for recipe, config in zip(recipes, configs, strict=True):
            words = [*given.words, *([word("run_dir", config.run_dir)] if config.run_dir else [])]
            print(f"recorded in {reproduce_recipe(recipe, given.source_dir, given.run, words)}")
        return 0
    if not given.check or not shipped:
        print(f"recorded in {reproduce(run, given.source_dir, given.run)}")
        return 0
    checkpoint = ROOT / "checkpoints" / given.name / "last.safetensors"
    if not checkpoint.is_file():
        raise ValueError(f"{checkpoint.relative_to(ROOT)}, the shipped checkpoint, is not there")
    dataset = dataset if given.source_dir else shipped.dataset
    build(dataset, given.source_dir)
    most = given.puzzles or (None if on_gpu else shipped.cpu_puzzles)
    return 0 if check(run, checkpoint, dataset, most, None if on_gpu else CPU_DEPTH) else 1


@command()
def main(words: Sequence[str]) -> int:
    """The command line. Exit code: 1 for a mistake or a failed check; also of a program that failed, its own."""
    parser = argparse.ArgumentParser(prog="reproduce.sh", description="Run an experiment again, or check it.")
    parser.add_argument("name", metavar="NAME", help="a run of results/runs/, a recipe of config/train/, or ladder")
    parser.add_argument("--check", action="store_true", help="evaluate the shipped checkpoint and compare, no more")
    parser.add_argument("--puzzles", type=int, metavar="N", help="--check: so many (all; on a CPU two minutes' worth)")
    parser.add_argument("--source-dir", type=Path, metavar="D", help="Sudoku-Extreme: train.csv and test.csv are here")
    parser.add_argument("--run", type=Path, metavar="RUN_DIR", help="a run that is trained: evaluate and compare it")
    words_help = "for the training of what is not recorded"
    parser.add_argument("words", nargs="*", default=[], metavar="key=value", help=words_help)
    try:
        return _run(parser.parse_intermixed_args(words))
    except subprocess.CalledProcessError as error:
        return error.returncode if error.returncode > 0 else 128 - error.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
