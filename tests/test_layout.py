"""Data sets on disk: written ones can be read, contradictory ones cannot."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import BUILT, exit_code

from config.command import unwinding
from dataset.layout import ARRAYS, SUMS, Split, located, new_dataset, puzzle_split, read_split, write_dataset


def small_split(examples: int = 6, copies: int = 2) -> Split:
    tokens_ES = np.random.default_rng(0).integers(0, 5, (examples, 4)).astype(np.uint8)
    return puzzle_split(tokens_ES, tokens_ES[::-1].copy(), vocab_size=5, copies=copies)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "set", {"train": small_split(), "test": small_split(3, 1)}, ["<blank>"])
    return tmp_path / "set"


def test_what_is_written_can_be_read(written: Path) -> None:
    for name, split in (("train", small_split()), ("test", small_split(3, 1))):
        read = read_split(written, name)
        assert read.metadata == split.metadata
        for array in ARRAYS:
            assert isinstance(vars(read)[array], np.memmap) or "indices" in array
            np.testing.assert_array_equal(vars(read)[array], vars(split)[array])
            assert vars(read)[array].dtype == vars(split)[array].dtype
    assert json.loads((written / "identifiers.json").read_text()) == ["<blank>"]


def test_keys_stand_in_the_released_order(written: Path) -> None:
    released = BUILT["maze_fixed_8"]["arrays"]["train/dataset.json"]
    assert list(json.loads((written / "train/dataset.json").read_text())) == list(released)


def test_a_data_set_is_replaced_and_nothing_is_left_beside_it(written: Path) -> None:
    write_dataset(written, {"train": small_split(2)}, ["<blank>"])
    assert len(read_split(written, "train").inputs) == 2
    assert not (written / "test").exists()
    assert [path.name for path in written.parent.iterdir()] == ["set"]


def test_a_split_that_contradicts_itself_leaves_the_old_data_set(written: Path) -> None:
    wrong = replace(small_split(), group_indices=np.array([0, 2, 2, 6], np.int32))
    with pytest.raises(ValueError, match="all__group_indices.npy: does not rise"):
        write_dataset(written, {"train": small_split(), "test": wrong}, ["<blank>"])
    assert len(read_split(written, "test").inputs) == 3
    assert [path.name for path in written.parent.iterdir()] == ["set"]


def test_splits_that_no_one_model_can_have_are_refused(tmp_path: Path) -> None:
    tokens = np.ones((2, 4), np.uint8)
    for other, said in [
        (puzzle_split(np.ones((2, 9), np.uint8), np.ones((2, 9), np.uint8), 5), "seq_len [^\n]* 4 in train, 9 in test"),
        (puzzle_split(tokens, tokens, vocab_size=6), "vocab_size [^\n]* 5 in train, 6 in test"),
    ]:
        with pytest.raises(ValueError, match=f"{said}$"):
            write_dataset(tmp_path / "set", {"train": small_split(), "test": other}, ["<blank>"])
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_things_is_not_replaced(written: Path) -> None:
    (written / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="'notes.txt' in it is no part of a data set"):
        write_dataset(written, {"train": small_split()}, ["<blank>"])
    with pytest.raises(ValueError, match="is a file"):
        write_dataset(written / "notes.txt", {"train": small_split()}, ["<blank>"])
    assert (written / "notes.txt").read_text() == "mine"


def test_the_current_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell in that folder would lose it."""
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    with pytest.raises(ValueError, match="it is the current folder"):
        write_dataset(".", {"train": small_split()}, ["<blank>"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_builder_that_is_stopped_leaves_nothing(number: int, tmp_path: Path) -> None:
    @unwinding()
    def build(_: list[str]) -> None:
        with new_dataset(tmp_path / "set") as fresh:
            (fresh / "part").write_text("")
            signal.raise_signal(number)

    own, heard = signal.getsignal(number), signal.default_int_handler
    signal.signal(number, heard)  # a background job of a script ignores SIGINT, and a builder would too
    try:
        assert exit_code(build, []) == 128 + number
        assert not list(tmp_path.iterdir()) and signal.getsignal(number) is heard
    finally:
        signal.signal(number, own)


def change_metadata(**changes: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        file = folder / "dataset.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def change_array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], object]:
    return lambda folder: np.save(folder / f"all__{name}.npy", change(np.load(folder / f"all__{name}.npy")))


def cut_short(folder: Path) -> None:
    (folder / "all__labels.npy").write_bytes((folder / "all__labels.npy").read_bytes()[:-1])


def blank_below_zero(folder: Path) -> None:
    """Labels that are not scored may be negative, inputs may not."""
    change_metadata(ignore_label_id=-100)(folder)
    for name in ("labels", "inputs"):
        change_array(name, lambda a: np.where(a == 0, np.int16(-100), a.astype(np.int16)))(folder)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: (folder / "dataset.json").unlink(), r"dataset.json: no such file.*build_NAME_dataset"),
    (lambda folder: (folder / "dataset.json").write_text("{"), r"dataset.json: is not JSON"),
    (change_metadata(sets=["all", "hard"]), r"dataset.json: .*only the one set"),
    (change_metadata(seq_len="four"), r"dataset.json: seq_len should be a valid integer"),
    (lambda folder: (folder / "all__labels.npy").write_bytes(POINTER), r"all__labels.npy is a Git LFS pointer"),
    (change_metadata(seq_len=5), r"all__inputs.npy: has shape \[6, 4\] instead of \[6, 5\]"),
    (change_metadata(vocab_size=4), r"all__inputs.npy: has values from 0 to 4 instead of 0 to 3"),
    (blank_below_zero, r"all__inputs.npy: has values from -100 to 4 instead of 0 to 4"),
    (change_metadata(total_groups=2), r"all__group_indices.npy: has shape \[4\] instead of \[3\]"),
    (lambda folder: (folder / "all__labels.npy").unlink(), r"all__labels.npy: no such file"),
    (cut_short, r"all__labels.npy: is not a complete"),
    (change_array("inputs", lambda a: a.astype(np.float32)), r"all__inputs.npy: holds float32"),
    (change_array("labels", lambda a: a[:-1]), r"all__labels.npy: has shape \[5, 4\] instead of \[6, 4\]"),
    (change_array("puzzle_identifiers", lambda a: a + 1), r"identifiers.npy: has values from 1 to 1 instead"),
    (change_array("puzzle_indices", lambda a: a[::-1]), r"all__puzzle_indices.npy: does not rise"),
    (change_array("group_indices", lambda a: a + (a == 0)), r"all__group_indices.npy: starts at 1 instead"),
    (
        change_array("group_indices", lambda a: a - (a == 6)),
        r"all__group_indices.npy: ends at 5 instead of 6",
    ),
]


@pytest.mark.parametrize(("spoil", "sentence"), FAULTS)
def test_faults_are_named(written: Path, spoil: Callable[[Path], object], sentence: str) -> None:
    spoil(written / "train")
    with pytest.raises(ValueError, match=sentence) as caught:
        read_split(written, "train")
    assert str(written / "train") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_of_other_builders_are_passed_over(written: Path) -> None:
    """As the released programs do."""
    own = read_split(written, "train").metadata
    (written / SUMS).unlink()
    change_metadata(builder="another", colour=1)(written / "train")
    assert read_split(written, "train").metadata == own


@pytest.mark.parametrize("order", ["<", ">"])
def test_any_order_of_bytes_is_read(order: str, written: Path) -> None:
    own = small_split()
    (written / SUMS).unlink()
    for name in ("inputs", "puzzle_indices"):
        change_array(name, lambda a: a.astype(np.dtype("int64").newbyteorder(order)))(written / "train")
    again = read_split(written, "train")
    np.testing.assert_array_equal(again.inputs, own.inputs)
    assert again.inputs.dtype.isnative and again.puzzle_indices.tolist() == own.puzzle_indices.tolist()


def test_a_relative_path_may_start_at_the_repository(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As data/NAME of a configuration does. A folder below the current one comes first."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with pytest.raises(ValueError, match=f"^{written.name}/train/dataset.json: no such file"):
        read_split(written.name, "train")
    monkeypatch.setattr("dataset.layout.ROOT", written.parent)
    assert len(read_split(written.name, "train").inputs) == 6
    (elsewhere / written.name).mkdir()
    assert located(written.name) == Path(written.name)
