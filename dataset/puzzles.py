"""From arrays on disk to batches on a device.

A training batch is a pure function of (seed, step), so that resuming a run takes one integer.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from config.schema import PretrainConfig
from dataset.layout import Split, read_split, require_one_shape

NOT_SCORED = -100
"""What `ignore_label_id` becomes in a batch: labels below 0 are not scored."""


class PuzzleShape(NamedTuple):
    """What a data set asks of a model: tokens of a puzzle, vocabulary, puzzle identifiers."""

    seq_len: int
    vocab_size: int
    num_puzzle_identifiers: int


class Batch(NamedTuple):
    """B puzzles of S tokens. A label below 0 is not scored."""

    inputs: Tensor  # [B, S] int32
    labels: Tensor  # [B, S] int32
    puzzle_ids: Tensor  # [B] int32


class Puzzles:
    """The examples of one split, as tensors.

    They are kept on the device where they take less than a quarter of its free memory, and stay
    memory-mapped files otherwise (and always on the CPU).
    """

    def __init__(self, directory: str | Path, split: str, device: torch.device) -> None:
        """Raises ValueError where the split is missing, malformed or empty."""
        self.split: Split = read_split(directory, split)
        if not len(self.split.inputs):
            raise ValueError(f"{directory}: its {split} split has no puzzles")
        self.device = device
        metadata = self.split.metadata
        self.shape = PuzzleShape(metadata.seq_len, metadata.vocab_size, metadata.num_puzzle_identifiers)
        self.ignore_label_id = metadata.ignore_label_id
        examples = np.diff(self.split.puzzle_indices)
        puzzle_ids = np.repeat(self.split.puzzle_identifiers, examples).astype(np.int32)
        tensors = [torch.from_numpy(a) for a in (self.split.inputs, self.split.labels, puzzle_ids)]
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if sum(t.nbytes for t in tensors) < free / 4:
                tensors = [t.to(device) for t in tensors]
        self._inputs, self._labels, self._puzzle_ids = tensors

    def __len__(self) -> int:
        """Number of examples."""
        return len(self._inputs)

    def notes(self, examples: np.ndarray) -> list[str]:
        """What an evaluation of the given examples should say: how many of them have no scored token."""
        unscored = 0
        for start in range(0, len(examples), 10_000):
            labels = self.split.labels[examples[start : start + 10_000]]
            unscored += int(((labels == self.ignore_label_id) | (labels < 0)).all(1).sum())
        said = f"{unscored} of the {len(examples)} puzzles have no scored token: they count as solved"
        return [said] if unscored else []

    def rows(self, examples: np.ndarray) -> Batch:
        """The given examples [B] as a batch on the device."""
        index = torch.from_numpy(examples.astype(np.int64)).to(self._inputs.device, non_blocking=True)
        picked = (t[index] for t in (self._inputs, self._labels, self._puzzle_ids))
        inputs, labels, puzzle_ids = (t.to(self.device, non_blocking=True).int() for t in picked)
        if self.ignore_label_id is not None:
            labels = torch.where(labels == self.ignore_label_id, NOT_SCORED, labels)
        return Batch(inputs, labels, puzzle_ids)


def train_and_test(config: PretrainConfig, device: torch.device) -> tuple[Puzzles, Puzzles]:
    """Both splits of the data set that a run takes.

    Raises ValueError as `Puzzles` does, and where one model cannot have both.
    """
    directory = config.dataset.data_path
    train, test = (Puzzles(directory, split, device) for split in ("train", "test"))
    identifiers = ["num_puzzle_identifiers"] if config.arch.puzzle_emb_ndim else []
    require_one_shape({"train": train.split, "test": test.split}, directory, *identifiers)
    return train, test


class TrainingBatches:
    """Batches of `batch_size` examples; `share` = (rank, ranks) takes one process's rows of each.

    An epoch is a random permutation of the groups; each group gives one random puzzle of its own, with its examples
    in random order; those that do not fit into a batch any more are dropped. So is what does not fill a batch at the
    end of an epoch; groups too few for an epoch's batches are drawn again within it.
    """

    def __init__(self, puzzles: Puzzles, batch_size: int, seed: int, share: tuple[int, int] = (0, 1)) -> None:
        self.puzzles, self.batch_size, self.seed = puzzles, batch_size, seed
        metadata = puzzles.split.metadata
        examples = int(metadata.total_groups * metadata.mean_puzzle_examples + 1e-6)  # the mean was rounded
        self.steps_per_epoch = max(1, examples // batch_size)
        rank, ranks = share
        assert batch_size % ranks == 0
        self._mine = slice(rank * batch_size // ranks, (rank + 1) * batch_size // ranks)
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def examples(self, step: int) -> np.ndarray:
        """Examples [batch_size] of the batch at `step`, of all processes together."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._draw(epoch)
        return self._order[place * self.batch_size : (place + 1) * self.batch_size]

    def batch(self, step: int) -> Batch:
        """This process's rows of the batch at `step`."""
        return self.puzzles.rows(self.examples(step)[self._mine])

    def _draw(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([3, self.seed, epoch])
        order, ends = np.empty((2, 0), np.int64)
        batches: list[np.ndarray] = []
        while len(batches) < self.steps_per_epoch:
            more, its_ends = self._one_pass(rng)
            order, ends = np.append(order, more), np.append(ends, len(order) + its_ends)
            begin = 0
            while begin + self.batch_size <= len(order):
                batches.append(order[begin : begin + self.batch_size])
                begin = int(ends[begin + self.batch_size - 1])
            order, ends = order[begin:], ends[begin:] - begin
        return np.concatenate(batches[: self.steps_per_epoch])

    def _one_pass(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One puzzle of every group, in random order, each with all its examples in random order.

        With each example comes where in this order its puzzle ends.
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
    """`wanted` of the numbers 0 .. total-1, evenly spread and in order; all of them where None or too many."""
    if wanted is None or wanted >= total:
        return np.arange(total)
    return np.arange(wanted) * total // wanted
