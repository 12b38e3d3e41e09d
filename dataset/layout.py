"""Reads, checks and writes data sets in the layout that HRM, TRM and EqR share.

- `<directory>/identifiers.json`: the names of the puzzle identifiers; number 0 is "<blank>"
- `<directory>/test_puzzles.json` (ARC only): the tasks of the test set, with their solutions
- `<directory>/<split>/dataset.json`: `Metadata`
- `<directory>/<split>/all__<name>.npy`: the arrays of `Split`
- `<directory>/SHA256SUMS`: checksums of the files above, which `sha256sum -c` understands. Only builders here write it.
"""

import json
import os
import shutil
import sys
import tokenize
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from config.fields import Count, Positive
from config.json_file import read_json
from config.text import refuse_pointer
from dataset.checksums import SUMS, require_sums, write_sums

ROOT = Path(__file__).resolve().parents[1]
ARRAYS = ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices")
BESIDE_SPLITS = ("identifiers.json", "test_puzzles.json", SUMS)
BUILDERS = "`python -m dataset.build_NAME_dataset` (sudoku, maze_unique, maze or arc; see docs/data.md)"


class Metadata(BaseModel):
    """The content of `dataset.json`.

    `total_groups` counts groups, `mean_puzzle_examples` is the mean number of examples per puzzle. Only some
    builders write the two optional totals. Other keys mean nothing here, as in the released programs.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    pad_id: Count
    ignore_label_id: int | None = Field(ge=-(2**31), lt=2**31)
    blank_identifier_id: Count
    vocab_size: Positive
    seq_len: Positive
    num_puzzle_identifiers: Positive
    total_groups: int = Field(ge=0)
    mean_puzzle_examples: float = Field(ge=0, allow_inf_nan=False)
    total_puzzles: int | None = None
    sets: list[str]
    total_samples: int | None = None


@dataclass(frozen=True)
class Split:
    """One split of a data set: E examples of P puzzles in G groups, S tokens each.

    Puzzle p has the examples puzzle_indices[p] <= e < puzzle_indices[p + 1]. Group g has puzzles likewise.
    """

    inputs: np.ndarray  # [E, S] tokens of the question
    labels: np.ndarray  # [E, S] tokens of the answer
    puzzle_identifiers: np.ndarray  # [P]
    puzzle_indices: np.ndarray  # [P + 1]
    group_indices: np.ndarray  # [G + 1]
    metadata: Metadata


def puzzle_split(inputs_ES: np.ndarray, labels_ES: np.ndarray, vocab_size: int, copies: int = 1) -> Split:
    """A split with one example per puzzle. Every `copies` consecutive puzzles are one group."""
    examples, seq_len = inputs_ES.shape
    assert labels_ES.shape == inputs_ES.shape and examples % copies == 0
    return Split(
        inputs=inputs_ES,
        labels=labels_ES,
        puzzle_identifiers=np.zeros(examples, np.int32),
        puzzle_indices=np.arange(examples + 1, dtype=np.int32),
        group_indices=np.arange(0, examples + 1, copies, dtype=np.int32),
        metadata=Metadata(
            pad_id=0,
            ignore_label_id=0,
            blank_identifier_id=0,
            vocab_size=vocab_size,
            seq_len=seq_len,
            num_puzzle_identifiers=1,
            total_groups=examples // copies,
            mean_puzzle_examples=1.0,
            sets=["all"],
            total_samples=examples,
        ),
    )


def located(directory: str | Path) -> Path:
    """The folder of a data set. A relative path that leads nowhere from the current folder starts at the repository."""
    folder, here = Path(directory), ROOT / directory
    return here if here.is_dir() and not folder.exists() else folder


def read_split(directory: str | Path, split: str) -> Split:
    """Checks all of one split ("train" or "test") and opens it, memory-mapped.

    Raises:
        ValueError: a file is missing, unreadable or contradicts the others. The sentence names file and fault.
    """
    folder = located(directory) / split
    metadata = _read_metadata(folder / "dataset.json")
    arrays = {name: _read_array(folder / f"all__{name}.npy") for name in ARRAYS}
    result = Split(**arrays, metadata=metadata)
    _check(result, folder)
    require_sums(folder.parent, f"{split}/dataset.json", *(f"{split}/all__{name}.npy" for name in ARRAYS))
    return replace(result, puzzle_indices=_indices(result.puzzle_indices), group_indices=_indices(result.group_indices))


def _indices(indices: np.ndarray) -> np.ndarray:
    """The same indices in memory, and with a sign, so that they can be subtracted."""
    return np.array(indices, np.int64 if indices.dtype.kind == "u" else indices.dtype)


def write_dataset(directory: str | Path, splits: Mapping[str, Split], identifiers: list[str]) -> None:
    """Writes a whole data set, or nothing (`new_dataset`). Warns if test puzzles are training puzzles as well.

    Args:
        directory: where to write it.
        splits: by name, such as "train" and "test".
        identifiers: the names of the puzzle identifiers, "<blank>" first.

    Raises:
        ValueError: as `new_dataset`, or a split is wrong, or one model cannot have all splits.
    """
    require_one_shape(splits, directory)
    if {"train", "test"} <= splits.keys() and (shared := shared_puzzles(splits["train"], splits["test"])):
        count = len(splits["test"].inputs)
        print(f"warning: {shared} of {count} test puzzles also stand in the training set", file=sys.stderr)
    with new_dataset(directory) as fresh:
        for name, split in splits.items():
            _check(split, fresh / name)
            _write_split(fresh / name, split)
        (fresh / "identifiers.json").write_text(json.dumps(identifiers), encoding="utf-8")


def shared_puzzles(train: Split, test: Split) -> int:
    """How many questions of the test split are questions of the training split, too."""

    def questions(split: Split) -> Iterator[bytes]:
        for first in range(0, len(split.inputs), 10_000):
            yield from map(bytes, split.inputs[first : first + 10_000].astype(np.int32))

    asked = set(questions(test))
    learned = {question for question in questions(train) if question in asked}
    return sum(question in learned for question in questions(test)) if learned else 0


def require_one_shape(splits: Mapping[str, Split], directory: str | Path, *more: str) -> None:
    """Checks that all splits agree in their sequence length, vocabulary and the fields of `more`.

    Raises:
        ValueError: they differ.
    """
    for name in ("seq_len", "vocab_size", *more):
        values = {key: getattr(split.metadata, name) for key, split in splits.items()}
        if len(set(values.values())) > 1:
            list_of_values = ", ".join(f"{value} in {key}" for key, value in values.items())
            raise ValueError(f"{directory}: {name} should be the same in all splits, but it is {list_of_values}")


@contextmanager
def new_dataset(directory: str | Path) -> Iterator[Path]:
    """Yields a new folder for a data set. It replaces `directory` when the block ends without an error.

    After an error, nothing has changed.

    Raises:
        ValueError: `directory` exists and holds anything but a data set.
    """
    target = Path(directory).resolve()
    check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new-{os.getpid()}")
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    try:
        fresh.mkdir()
        yield fresh
        write_sums(fresh)
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    finally:
        if old.exists() and not target.exists():  # the second rename failed: put the old data set back
            old.rename(target)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def check_replaceable(directory: str | Path) -> None:
    """Checks that `directory` does not exist, is empty, or holds a data set and nothing else.

    Raises:
        ValueError: it is something else, or the current folder lies in it.
    """
    folder = Path(directory)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder}: is a file, not a folder to write a data set into")
    if Path.cwd().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder}: not replaced, because it is the current folder, or one above: name a folder in it")
    parts = {file.parent for file in folder.glob("*/dataset.json")} | {folder / name for name in BESIDE_SPLITS}
    others = sorted(set(folder.iterdir()) - parts)
    if others:
        raise ValueError(f"{folder}: not replaced, because {others[0].name!r} in it is no part of a data set")


def _read_metadata(file: Path) -> Metadata:
    if not file.is_file():
        key = "to use one elsewhere, give dataset.data_path (in an evaluation: dataset_data_path)"
        raise ValueError(f"{file}: no such file; a data set is built by {BUILDERS}; {key}")
    metadata = read_json(file, Metadata)
    if metadata.sets != ["all"]:
        raise ValueError(f'{file}: sets is {metadata.sets}, but only the one set "all" can be read')
    return metadata


# what a damaged header makes NumPy raise
_NO_ARRAY = (
    *(ValueError, EOFError, TypeError, AttributeError, LookupError, OverflowError, RecursionError, MemoryError),
    *(SyntaxError, tokenize.TokenError),
)


def _read_array(file: Path) -> np.ndarray:
    if not file.is_file():
        raise ValueError(f"{file}: no such file; a data set is built by {BUILDERS}")
    refuse_pointer(file)
    try:
        array: np.ndarray = np.lib.format.open_memmap(file, mode="c")
    except _NO_ARRAY as error:
        raise ValueError(f"{file}: is not a complete .npy file ({error})") from error
    if not array.ndim:
        raise ValueError(f"{file}: holds a single value instead of a list")
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # PyTorch has no numbers in another byte order


def _check(split: Split, folder: Path) -> None:
    def require(correct: bool, name: str, fault: str) -> None:
        if not correct:
            raise ValueError(f"{folder / f'all__{name}.npy'}: {fault}")

    meta = split.metadata
    examples, puzzles = len(split.inputs), len(split.puzzle_identifiers)
    for name, array in [(name, vars(split)[name]) for name in ARRAYS]:
        require(array.dtype.kind in "iu", name, f"holds {array.dtype} instead of integers")
        if name in ("inputs", "labels"):
            shape: tuple[int, ...] = (examples, meta.seq_len)
            low, high = min(0, (meta.ignore_label_id or 0) * (name == "labels")), meta.vocab_size - 1
        elif name == "puzzle_identifiers":
            shape, low, high = (puzzles,), 0, meta.num_puzzle_identifiers - 1
        elif name == "puzzle_indices":
            shape, low, high = (puzzles + 1,), 0, examples
        else:
            shape, low, high = (meta.total_groups + 1,), 0, puzzles
        require(array.shape == shape, name, f"has shape {list(array.shape)} instead of {list(shape)}")
        at_least_zero = low <= 0 and array.dtype.kind == "u"  # saves half of the time for large data sets
        if array.size and not ((at_least_zero or low <= array.min()) and array.max() <= high):
            require(False, name, f"has values from {array.min()} to {array.max()} instead of {low} to {high}")
    for name, indices, end in [
        ("puzzle_indices", split.puzzle_indices, examples),
        ("group_indices", split.group_indices, puzzles),
    ]:
        require(bool(np.all(indices[:-1] < indices[1:])), name, "does not rise from entry to entry")
        require(int(indices[0]) == 0, name, f"starts at {indices[0]} instead of 0")
        require(int(indices[-1]) == end, name, f"ends at {indices[-1]} instead of {end}")
    most = int(np.diff(_indices(split.puzzle_indices)).max(initial=0))
    if most and meta.mean_puzzle_examples > most * (1 + 1e-6):
        mean = f"mean_puzzle_examples is {meta.mean_puzzle_examples:g}"
        raise ValueError(f"{folder / 'dataset.json'}: {mean}, but no puzzle has more than {most} examples")


def _write_split(folder: Path, split: Split) -> None:
    folder.mkdir()
    for name in ARRAYS:
        np.save(folder / f"all__{name}.npy", vars(split)[name])
    text = json.dumps(split.metadata.model_dump(exclude_unset=True))
    (folder / "dataset.json").write_text(text, encoding="utf-8")
