"""Builds a data set of ARC-AGI-1, ARC-AGI-2 or ConceptARC tasks with their augmentations.

    python -m dataset.build_arc_dataset --input-file-prefix arc/arc-agi --output-dir data/arc1-aug-1000 \\
        --subsets training evaluation concept --test-set-name evaluation
    python -m dataset.build_arc_dataset --input-file-prefix ARC-AGI/data --output-dir data/arc1-aug-1000 \\
        --subsets training evaluation ../../ConceptARC/corpus --test-set-name evaluation
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from config.command import command, unwinding
from dataset.arc import (
    NOT_KNOWN,
    SEQ_LEN,
    SIDE,
    VOCAB_SIZE,
    Augmentation,
    Example,
    Task,
    draw_augmentations,
    encode,
    pack,
    read_subset,
    task_fields,
)
from dataset.dihedral import SWAPPING
from dataset.layout import Metadata, check_replaceable, new_dataset
from dataset.progress import counted

Tokens = tuple[np.ndarray, np.ndarray]
"""Questions and answers of a task, [K, E, S] uint8 each: K augmentations of E examples."""


def board_tokens(examples: list[Example], augmentations: list[Augmentation], corners_EK2: np.ndarray) -> Tokens:
    """The tokens of the examples under all augmentations. Both grids of an example have the same corner."""
    questions, answers = [], []
    for (question, answer), corners_K2 in zip(examples, corners_EK2, strict=True):
        questions.append(encode(question, augmentations, corners_K2))
        answers.append(encode(NOT_KNOWN if answer is None else answer, augmentations, corners_K2))
    return np.stack(questions, axis=1), np.stack(answers, axis=1)


def draw_corners(examples: list[Example], augmentations: list[Augmentation], rng: np.random.Generator) -> np.ndarray:
    """Random corners for the grids of every example, [E, K, 2]. One example per augmentation stays at (0, 0)."""
    E, K = len(examples), len(augmentations)
    # Both grids of an example must fit, turned or not.
    room_EKG2 = np.empty((E, K, 2, 2), np.int64)
    for e, example in enumerate(examples):
        for g, grid in enumerate(example):
            assert grid is not None
            upright, turned = (np.subtract(SIDE, shape) for shape in (grid.shape, grid.shape[::-1]))
            room_EKG2[e, :, g] = [turned if a.symmetry in SWAPPING else upright for a in augmentations]
    corners_EK2 = rng.integers(0, room_EKG2.min(axis=2), endpoint=True)
    corners_EK2[rng.integers(E, size=K), np.arange(K)] = 0
    return corners_EK2


@contextmanager
def growing_array(file: Path) -> Iterator[Callable[[np.ndarray], None]]:
    """Yields a function that appends boards [N, S] uint8 to a new .npy file. The file is complete after the block."""
    rows = 0
    with file.open("wb") as raw:

        def header() -> int:  # numpy leaves room for a longer shape
            shape = {"descr": "|u1", "fortran_order": False, "shape": (rows, SEQ_LEN)}
            np.lib.format.write_array_header_1_0(raw, shape)
            return raw.tell()

        def append(boards_NS: np.ndarray) -> None:
            nonlocal rows
            raw.write(np.ascontiguousarray(boards_NS).data)
            rows += len(boards_NS)

        length = header()
        yield append
        raw.seek(0)
        assert header() == length


@contextmanager
def growing_split(folder: Path, identifiers: list[str]) -> Iterator[Callable[[Tokens, int], None]]:
    """Yields a function that appends a group to a new split, from its tokens and its first identifier.

    The split is complete after the block. By then `identifiers` must have all names.
    """
    folder.mkdir()
    sizes: list[tuple[int, int]] = []  # puzzles of a group, examples of each of them
    first_ids: list[int] = []
    with growing_array(folder / "all__inputs.npy") as inputs, growing_array(folder / "all__labels.npy") as labels:

        def append(tokens: Tokens, first_id: int) -> None:
            for array, boards_KES in zip((inputs, labels), tokens, strict=True):
                array(boards_KES.reshape(-1, SEQ_LEN))
            sizes.append(tokens[0].shape[:2])
            first_ids.append(first_id)

        yield append
    puzzles, examples = np.array(sizes).T
    arrays = {
        "puzzle_identifiers": np.concatenate(
            [np.arange(first, first + count) for first, count in zip(first_ids, puzzles, strict=True)]
        ),
        "puzzle_indices": np.cumsum([0, *np.repeat(examples, puzzles)]),
        "group_indices": np.cumsum([0, *puzzles]),
    }
    for name, array in arrays.items():
        np.save(folder / f"all__{name}.npy", array.astype(np.int32))
    metadata = Metadata(
        pad_id=0,
        ignore_label_id=0,
        blank_identifier_id=0,
        vocab_size=VOCAB_SIZE,
        seq_len=SEQ_LEN,
        num_puzzle_identifiers=len(identifiers),
        total_groups=len(sizes),
        mean_puzzle_examples=float(puzzles @ examples / puzzles.sum()),
        total_puzzles=len(sizes),
        sets=["all"],
    )
    (folder / "dataset.json").write_text(json.dumps(metadata.model_dump(exclude_unset=True)), encoding="utf-8")


def known_tasks(subsets: dict[str, list[Task]], test_set: str) -> dict[str, str]:
    """Tasks of the test set that share an example with another subset, and the names of its tasks there."""
    owners: dict[tuple[bytes, bytes], set[str]] = {}
    for subset, tasks in subsets.items():
        for task in tasks if subset != test_set else []:
            for pair in _pairs(task):
                owners.setdefault(pair, set()).add(f"{task.name} in {subset}")
    known = {task.name: set().union(*(owners.get(pair, ()) for pair in _pairs(task))) for task in subsets[test_set]}
    return {name: ", ".join(sorted(places)) for name, places in known.items() if places}


def _pairs(task: Task) -> list[tuple[bytes, bytes]]:
    examples = [*task.train, *task.test]
    return [(pack(question), pack(answer)) for question, answer in examples if answer is not None]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line, with defaults."""
    parser = argparse.ArgumentParser(
        description="Build a data set of ARC tasks, from <prefix>_<subset>_{challenges,solutions}.json "
        "or from the folders <prefix>/<subset> with a file for each task.",
        epilog="The test inputs of the test set are the test split; all else is the train split.",
    )
    add = parser.add_argument
    add("--input-file-prefix", required=True, metavar="P", help="such as arc/arc-agi or ARC-AGI/data")
    add("--output-dir", type=Path, required=True, help="folder to write")
    add("--subsets", nargs="+", required=True, metavar="NAME", help="such as training evaluation concept")
    add("--test-set-name", required=True, metavar="NAME", help="the subset to test on, one of --subsets")
    add("--num-aug", type=int, default=1000, metavar="N", help="augmentations per task, at most (default: %(default)s)")
    add("--seed", type=int, default=42, help="default: %(default)s")
    return parser.parse_args(arguments)


def validate(options: argparse.Namespace) -> None:
    """Checks the options.

    Raises:
        ValueError: they contradict each other or cannot be met.
    """
    for name in ("num_aug", "seed"):
        if vars(options)[name] < 0:
            raise ValueError(f"--{name.replace('_', '-')} {vars(options)[name]} is less than 0")
    for subset in options.subsets:
        if options.subsets.count(subset) > 1:
            raise ValueError(f"--subsets names {subset} twice")
    if options.test_set_name not in options.subsets:
        raise ValueError(f"--test-set-name {options.test_set_name} is none of --subsets")


def build(options: argparse.Namespace) -> None:
    """Writes the data set, task by task.

    Raises:
        ValueError: the options or the tasks are wrong.
    """
    validate(options)
    check_replaceable(options.output_dir)
    subsets = {subset: read_subset(options.input_file_prefix, subset) for subset in options.subsets}
    known = known_tasks(subsets, options.test_set_name)
    if known:
        names = "; ".join(f"{name} ({places})" for name, places in known.items())
        print(
            f"warning: {len(known)} of {len(subsets[options.test_set_name])} tasks of the test set "
            f"{options.test_set_name} also stand in the training subsets: {names}",
            file=sys.stderr,
        )
    learned = [task for subset, tasks in subsets.items() if subset != options.test_set_name for task in tasks]
    if unsolved := sum(example.output is None for task in learned for example in task.test):
        note = f"{unsolved} test inputs of the training subsets have no solution: they are left out"
        print(f"note: {note}", file=sys.stderr)
    if unknown := sum(example.output is None for task in subsets[options.test_set_name] for example in task.test):
        note = f"{unknown} test inputs of the test set have no solution: they are asked, but in no accuracy or loss"
        print(f"note: {note}", file=sys.stderr)
    rng = np.random.default_rng(options.seed)
    identifiers = ["<blank>"]
    with new_dataset(options.output_dir) as fresh:
        with growing_split(fresh / "train", identifiers) as train, growing_split(fresh / "test", identifiers) as test:
            for subset, tasks in subsets.items():
                is_test_set = subset == options.test_set_name
                for task in counted(tasks, len(tasks), f"tasks of {subset}"):
                    augmentations = draw_augmentations(task, options.num_aug, rng)
                    first = len(identifiers)
                    identifiers += [task.name, *(a.name(task.name) for a in augmentations[1:])]
                    solved = [example for example in task.test if example.output is not None]
                    shown = task.train if is_test_set else [*task.train, *solved]
                    train(board_tokens(shown, augmentations, draw_corners(shown, augmentations, rng)), first)
                    if is_test_set:
                        unmoved = np.zeros((len(task.test), len(augmentations), 2), np.int64)
                        test(board_tokens(task.test, augmentations, unmoved), first)
        (fresh / "identifiers.json").write_text(json.dumps(identifiers), encoding="utf-8")
        asked = {task.name: task_fields(task) for task in subsets[options.test_set_name]}
        (fresh / "test_puzzles.json").write_text(json.dumps(asked), encoding="utf-8")


@command(mistake=2)
@unwinding()
def main(words: Sequence[str]) -> None:
    """The command line. A signal leaves nothing half-written."""
    options = parse(words)
    build(options)
    print(f"{options.output_dir}: the data set is complete")


if __name__ == "__main__":
    main(sys.argv[1:])
