"""Trains recipes that have no record yet, evaluates them, and prints ours beside the paper's numbers."""

from collections.abc import Sequence
from pathlib import Path

from config.fields import Role, keys
from config.load import load_pretrain
from config.schema import PretrainConfig
from reproduction.accuracy import exact, percent
from reproduction.commands import word
from reproduction.paper import Paper, Task, read_paper
from reproduction.programs import build, is_built, script, trained
from reproduction.record import record, run_config
from reproduction.records import Record, portable, to_text
from runtime.files import write_whole

LADDER = (
    "feedforward_sudoku",
    "ladder_1_weight_tied_sudoku",
    "ladder_2_supervised_sudoku",
    "ladder_3_hierarchy_sudoku",
)
"""From the feedforward net towards TRM, one idea at a time."""
DEPTHS = (1, 2, 4, 8, 16, 32, 64)


def rung(config: PretrainConfig) -> PretrainConfig:
    """A rung of the ladder in its own folder of `run_dir`, so that the ladder goes on when it is started again."""
    folder = Path(config.run_dir or Path(config.checkpoint_path, "ladder"), config.run_name)
    return config.model_copy(update={"run_dir": str(folder)})


def require_same(config: PretrainConfig) -> None:
    """Raises ValueError if a run with other settings is in `run_dir` already."""
    if config.run_dir and Path(config.run_dir, "config.yaml").is_file():
        apart = set(keys(PretrainConfig, Role.COMPUTE))
        now = portable(config).model_dump(exclude=apart)
        before = run_config(Path(config.run_dir)).model_dump(exclude=apart)
        if other := [name for name, value in now.items() if before[name] != value]:
            raise ValueError(f"{config.run_dir} is a run with another {other[0]}: give run_dir=FOLDER, a new one")


def reproduce_recipe(recipe: str, source_dir: Path | None, directory: Path | None, words: Sequence[str]) -> Path:
    """Builds the data, trains, evaluates one start a puzzle, and records; returns the record's file.

    Args:
        recipe: a configuration of config/train.
        source_dir: where Sudoku-Extreme's CSVs are (None: the hub).
        directory: a run of the recipe that is trained already (None: train one).
        words: changes of the recipe, such as `max_steps=10000`.

    Raises:
        ValueError: `directory` is a run of another recipe, or the data cannot be built.
        subprocess.CalledProcessError: a program failed, and has said why.
    """
    config, paper = run_config(directory) if directory else load_pretrain([f"train={recipe}", *words]), read_paper()
    if config.run_name != recipe:
        raise ValueError(f"{directory} is a run of {config.run_name}, not of {recipe}")
    own = Path(config.dataset.data_path).name
    build(own, source_dir if own.startswith("sudoku-extreme") else None)
    directory = directory or trained([recipe, *words])
    folders = []
    for name in dict.fromkeys([own, *_compared_on(own, paper)]):
        folders.append(folder := directory / f"evaluation_{name}")
        if not (folder / "results.json").is_file():
            depths = word("halt_max_steps", DEPTHS if config.arch.halt_max_steps > 1 else (1,))
            where = word("dataset_data_path", f"data/{name}"), word("eval_dir", str(folder))
            print(script("eval.sh", str(directory), depths, *where))
    new = record(directory.name, directory, folders)
    write_whole(file := directory / "record.json", to_text(new))
    print("\n".join(beside(new, paper)))
    return file


def _tasks(dataset: str, paper: Paper) -> list[Task]:
    return [task for task in paper.tasks.values() if task.dataset == dataset]


def _compared_on(dataset: str, paper: Paper) -> list[str]:
    """The data sets that are here with the test puzzles on which this data set's task compares with the paper."""
    sets = [paper.test_sets[task.compared_on] for task in _tasks(dataset, paper)]
    return [name for test_set in sets for name in test_set.datasets if is_built(name)][:1]


def beside(run: Record, paper: Paper) -> list[str]:
    """A line for every number of the paper that the run has too, on each of its test sets."""
    lines = []
    for task in _tasks(Path(run.config.dataset.data_path).name, paper):
        for number in task.numbers:
            if run.recipe in number.recipes and number.as_trained and number.breadth == 1:
                theirs = f"the paper: {number.exact:g}% of {task.paper_test_set}"
                for evaluation in run.evaluations:
                    if number.depth in evaluation.metrics:
                        ours = percent(exact(evaluation, number.depth), evaluation.puzzles)
                        where = f"{evaluation.puzzles:,} puzzles of {evaluation.dataset}"
                        said = f"{run.recipe}, {run.steps:,} steps, depth {number.depth}"
                        lines.append(f"{said}: {ours}% of {where}; {theirs}")
    return lines
