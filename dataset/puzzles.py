"""Turns arrays on disk into batches on a device.

A training batch is a pure function of (seed, step), so a run can resume from one integer.
Shapes: B rows of a batch, S tokens of a puzzle.
"""

import math
import mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from config.fields import Positive
from config.schema import PretrainConfig
from dataset.arc import unanswered
from dataset.layout import Split, read_split, require_one_shape

NOT_SCORED, UNANSWERED = -100, -101
"""Labels below 0 are not scored. The first replaces `ignore_label_id` in a batch, the second an unknown answer."""


JOINED = 2**24
"""Examples of joined epochs that are drawn at a time, at most."""


class PuzzleShape(NamedTuple):
    """The sizes that a model must know of its puzzles."""

    seq_len: Positive  # tokens of a puzzle
    vocab_size: Positive
    num_puzzle_identifiers: Positive


class Batch(NamedTuple):
    """B puzzles of S tokens. A label below 0 is not scored."""

    inputs: Tensor  # [B, S] int32
    labels: Tensor  # [B, S] int32
    puzzle_ids: Tensor  # [B] int32


class Puzzles:
    """The examples of one split, as tensors.

    They move to a GPU if they take less than a quarter of its free memory. Otherwise they stay memory-mapped files.
    """

    def __init__(self, directory: str | Path, split: str, device: torch.device) -> None:
        """Opens a split ("train" or "test") of the data set in `directory`.

        Raises:
            ValueError: the split is missing, malformed or empty.
        """
        self.split: Split = read_split(directory, split)
        if not len(self.split.inputs):
            raise ValueError(f"{directory}: its {split} split has no puzzles")
        self.device = device
        metadata = self.split.metadata
        self.shape = PuzzleShape(metadata.seq_len, metadata.vocab_size, metadata.num_puzzle_identifiers)
        self.ignore_label_id = metadata.ignore_label_id
        nothing_E = np.zeros(len(self.split.inputs), bool)
        self.unanswered_E = unanswered(directory, self.split) if split == "test" else nothing_E
        examples = np.diff(self.split.puzzle_indices)
        puzzle_ids = np.repeat(self.split.puzzle_identifiers, examples).astype(np.int32)
        tensors = [torch.from_numpy(a) for a in (self.split.inputs, self.split.labels, puzzle_ids)]
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if sum(t.nbytes for t in tensors) < free / 4:
                tensors = [t.to(device) for t in tensors]
        self._inputs, self._labels, self._puzzle_ids = tensors
        opened: list[Any] = [array.base for array in (self.split.inputs, self.split.labels)]
        self._files = {file: file.size() for file in opened if isinstance(file, mmap.mmap)}
        self._directory = directory

    def __len__(self) -> int:
        """Number of examples."""
        return len(self._inputs)

    def notes(self, examples: np.ndarray) -> list[str]:
        """Sentences for the user if some of these examples have no known answer, or no scored token."""
        unscored = 0
        for start in range(0, len(examples), 10_000):
            labels = self.split.labels[examples[start : start + 10_000]]
            unscored += int(((labels == self.ignore_label_id) | (labels < 0)).all(1).sum())
        unknown = int(self.unanswered_E[examples].sum())
        counted = {
            f"{unknown} of the {len(examples)} puzzles have no known answer: they are in no accuracy or loss": unknown,
            f"{unscored} of the {len(examples)} puzzles have no scored token: they count as solved": unscored,
        }
        return [note for note, count in counted.items() if count]

    def rows(self, examples: np.ndarray) -> Batch:
        """The given examples [B] as a batch on the device. Raises ValueError if files have changed meanwhile."""
        if any(file.size() < size for file, size in self._files.items()):  # reading on would end the process
            raise ValueError(f"{self._directory}: its files were cut short while they were in use")
        index = torch.from_numpy(examples.astype(np.int64)).to(self._inputs.device, non_blocking=True)
        rows = [t[index] for t in (self._inputs, self._labels, self._puzzle_ids)]
        if not self._inputs.is_cuda and any(t.max() >= self.shape.vocab_size for t in rows[:2]):
            raise ValueError(f"{self._directory}: its files were changed while they were in use")
        inputs, labels, puzzle_ids = (t.to(self.device, non_blocking=True).int() for t in rows)
        if self.ignore_label_id is not None:
            labels = torch.where(labels == self.ignore_label_id, NOT_SCORED, labels)
        if self.unanswered_E[examples].any():
            labels[torch.from_numpy(self.unanswered_E[examples]).to(labels.device)] = UNANSWERED
        return Batch(inputs, labels, puzzle_ids)


def train_and_test(config: PretrainConfig, device: torch.device) -> tuple[Puzzles, Puzzles]:
    """Both splits of a run's data set.

    Raises:
        ValueError: as `Puzzles`, or one model cannot have both splits.
    """
    directory = config.dataset.data_path
    train, test = (Puzzles(directory, split, device) for split in ("train", "test"))
    identifiers = ["num_puzzle_identifiers"] if config.arch.puzzle_emb_ndim else []
    require_one_shape({"train": train.split, "test": test.split}, directory, *identifiers)
    return train, test


class TrainingBatches:
    """Batches of `batch_size` examples, drawn epoch by epoch, or several epochs at a time.

    An epoch is a random permutation of the groups. Each group gives one random puzzle, with its examples in random
    order. When a batch is full, the rest of its last puzzle is dropped. At the end of a draw, so is a batch that
    is not full. If all groups together do not fill the batches of a draw, it draws every group again.

    EqR's loader draws one epoch at a time: 1000 groups give one batch of 768. The loaders of HRM, TRM and HRM-SRU
    join epochs end to end (`join_epochs`): 96 epochs of 1000 groups give 125 batches, and nothing is dropped.

    Args:
        puzzles: the training split.
        batch_size: rows of a batch, over all processes.
        seed: of all draws.
        share: (rank, ranks): `batch` gives the rows of this process alone.
        join_epochs: a draw takes as many epochs as fill whole batches, but at most `JOINED` examples.
    """

    def __init__(
        self,
        puzzles: Puzzles,
        batch_size: int,
        seed: int,
        share: tuple[int, int] = (0, 1),
        join_epochs: bool = False,
    ) -> None:
        self.puzzles, self.batch_size, self.seed = puzzles, batch_size, seed
        metadata = puzzles.split.metadata
        self._mean_examples = metadata.total_groups * metadata.mean_puzzle_examples + 1e-6  # the mean was rounded
        examples, epochs = int(self._mean_examples), 1
        if join_epochs:
            epochs = min(batch_size // math.gcd(batch_size, examples), JOINED // max(1, examples))
        self._join_epochs, self._steps_per_draw = join_epochs, max(1, max(1, epochs) * examples // batch_size)
        rank, ranks = share
        assert batch_size % ranks == 0
        self._own_rows = slice(rank * batch_size // ranks, (rank + 1) * batch_size // ranks)
        self._number, self._order = -1, np.empty(0, np.int64)

    def steps(self, epochs: int) -> int:
        """The batches of so many epochs."""
        if not self._join_epochs:
            return epochs * self._steps_per_draw
        return max(1, int(epochs * self._mean_examples / self.batch_size))

    def examples(self, step: int) -> np.ndarray:
        """The examples [batch_size] of the batch at `step`, over all processes."""
        number, place = divmod(step, self._steps_per_draw)
        if number != self._number:
            self._number, self._order = number, self._draw(number)
        return self._order[place * self.batch_size : (place + 1) * self.batch_size]

    def batch(self, step: int) -> Batch:
        """This process's rows of the batch at `step`."""
        return self.puzzles.rows(self.examples(step)[self._own_rows])

    def _draw(self, number: int) -> np.ndarray:
        rng = np.random.default_rng([3, self.seed, number])
        order, ends = np.empty((2, 0), np.int64)
        batches: list[np.ndarray] = []
        while len(batches) < self._steps_per_draw:
            passes, length = [(order, ends)], len(order)
            while length < self.batch_size:
                next_order, next_ends = self._one_pass(rng)
                passes.append((next_order, length + next_ends))
                length += len(next_order)
            order, ends = map(np.concatenate, zip(*passes, strict=True))
            begin = 0
            while begin + self.batch_size <= len(order):
                batches.append(order[begin : begin + self.batch_size])
                begin = int(ends[begin + self.batch_size - 1])
            order, ends = order[begin:], ends[begin:] - begin
        return np.concatenate(batches[: self._steps_per_draw])

    def _one_pass(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(examples, ends): one puzzle of every group, in random order, with its examples in random order.

        ends[i] is the index after the last example of the puzzle that example i belongs to.
        """
        groups, puzzles = self.puzzles.split.group_indices, self.puzzles.split.puzzle_indices
        order = rng.permutation(len(groups) - 1)
        chosen = rng.integers(groups[order], groups[order + 1])
        counts = puzzles[chosen + 1] - puzzles[chosen]
        owner = np.repeat(np.arange(len(chosen)), counts)
        offset = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        shuffled = np.lexsort((rng.random(len(owner)), owner))
        return (puzzles[chosen][owner] + offset[shuffled]).astype(np.int64), np.cumsum(counts)[owner]


def evenly_spread(total: int, wanted: int | None) -> np.ndarray:
    """`wanted` of the numbers 0 to total - 1, evenly spread and in order; all if `wanted` is None or too large."""
    if wanted is None or wanted >= total:
        return np.arange(total)
    return np.arange(wanted) * total // wanted
