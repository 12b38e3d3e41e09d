"""ARC evaluation: the answers to all augmentations of a test input are undone and voted on.

N counts predictions, S tokens of a board. A grid is kept as `dataset.arc.pack` makes it: equal grids, equal bytes.
"""

import base64
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataset.arc import Task, crop, pack, parse_task, split_name, unpack
from dataset.puzzles import Puzzles
from evaluation.observations import Observation

AT = (1, 2, 5, 10, 100, 1000)
"""How many of the most voted answers are compared with the truth, for `ARC/pass@k`."""

ATTEMPTS = 2
KEEP = max(AT) + 24
"""Best answers to a test input that are kept when there are more than twice as many."""

UNIT = 2**32
"""Confidences are added as integers, so that a sum does not depend on the order of its parts."""

NO_ANSWER = [[0]]


class Tally(NamedTuple):
    """How often an answer was given, and the sum of sigmoid(q_halt) in units of 1 / UNIT."""

    votes: int = 0
    confidence: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """Both together."""
        return Tally(self.votes + other.votes, self.confidence + other.confidence)


Question = tuple[str, bytes]
"""A task's name and a test input."""

Counts = dict[Question, dict[bytes, Tally]]
"""For every question asked, the answers given."""


def ranked(answers: Mapping[bytes, Tally]) -> list[bytes]:
    """The answers by votes, then by mean confidence, most first; the grid itself settles what is still equal."""

    def place(answer: bytes) -> tuple[int, float, bytes]:
        tally = answers[answer]
        return -tally.votes, -tally.confidence / tally.votes, answer

    return sorted(answers, key=place)


class Votes:
    """The votes of one process on the test inputs of a data set.

    Memory is bounded: a test input has at most 2 * KEEP answers here, of which the best KEEP survive when there
    are more. Up to that many the result depends on no order; 1000 augmentations give 1001 answers at most.
    """

    def __init__(self, names: list[str], tasks: dict[str, Task]) -> None:
        """`names` are those of the puzzle identifiers, `tasks` the tasks of the test set."""
        self._names, self._tasks = names, tasks
        self._questions = {(name, pack(test.input)) for name, task in tasks.items() for test in task.test}
        self.counts: Counts = {}

    def like(self) -> "Votes":
        """Votes on the same test inputs, none counted."""
        return Votes(self._names, self._tasks)

    @classmethod
    def read(cls, directory: str | Path) -> "Votes":
        """For a data set on disk; raises ValueError that names file and fault where its ARC files are wrong."""
        names_file, tasks_file = (Path(directory) / name for name in ("identifiers.json", "test_puzzles.json"))
        content = []
        for file, kind in ((names_file, list), (tasks_file, dict)):
            if not file.is_file():
                raise ValueError(f"{file}: no such file; ARC data is built by `python -m dataset.build_arc_dataset`")
            try:
                content.append(json.loads(file.read_bytes()))
            except ValueError as error:
                raise ValueError(f"{file}: is not JSON ({error})") from error
            if not isinstance(content[-1], kind):
                raise ValueError(f"{file}: holds no {kind.__name__}")
        names, tasks = content
        return cls(names, {name: parse_task(tasks_file, name, fields) for name, fields in tasks.items()})

    def add(
        self, inputs_NS: np.ndarray, predictions_NS: np.ndarray, puzzle_ids_N: np.ndarray, q_halt_N: np.ndarray
    ) -> None:
        """Count predictions. The blank puzzle 0 only fills up a batch; an empty grid is a question without answer.

        Raises ValueError for an input that is not in the test set.
        """
        confidences_N = 0.5 + 0.5 * np.tanh(np.nan_to_num(np.asarray(q_halt_N, np.float64)) / 2)
        rows = zip(puzzle_ids_N, crop(inputs_NS), crop(predictions_NS), confidences_N, strict=True)
        for puzzle_id, question_grid, answer_grid, confidence in rows:
            if puzzle_id == 0:
                continue
            name = self._names[puzzle_id]
            task, augmentation = split_name(name)
            question = task, pack(augmentation.undo(question_grid))
            if question not in self._questions:
                raise ValueError(f"an input of the puzzle {name} is no test input in test_puzzles.json")
            answers = self.counts.setdefault(question, {})
            if answer_grid.size:
                answer = pack(augmentation.undo(answer_grid))
                answers[answer] = answers.get(answer, Tally()).plus(Tally(1, round(confidence * UNIT)))
            if len(answers) > 2 * KEEP:
                self.counts[question] = {best: answers[best] for best in ranked(answers)[:KEEP]}

    def merge(self, counts: Counts) -> None:
        """Add the counts of another process; any order of merging gives the same."""
        for question, answers in counts.items():
            mine = self.counts.setdefault(question, {})
            for answer, tally in answers.items():
                mine[answer] = mine.get(answer, Tally()).plus(tally)

    def metrics(self) -> dict[str, float]:
        """`ARC/pass@k`: the share of a task's test inputs whose answer is among the k most voted, averaged over tasks.

        Counted are test inputs that were asked and whose answers are known; NaN where there are none.
        """
        shares: list[list[float]] = []
        for name, task in self._tasks.items():
            places: list[float] = []
            for test in task.test:
                answers = self.counts.get((name, pack(test.input)))
                if answers is not None and test.output is not None:
                    right = pack(test.output)
                    places.append(ranked(answers).index(right) if right in answers else math.inf)
            if places:
                shares.append([sum(place < k for place in places) / len(places) for k in AT])
        means = np.mean(shares, axis=0) if shares else np.full(len(AT), math.nan)
        return {f"ARC/pass@{k}": float(mean) for k, mean in zip(AT, means, strict=True)}

    def write_submission(self, file: str | Path) -> None:
        """The two most voted answers to every test input, in Kaggle's format.

        Where only one answer was given it is both attempts; where none was, both are one black cell.
        """
        submission = {
            name: [self._attempts((name, pack(test.input))) for test in task.test] for name, task in self._tasks.items()
        }
        Path(file).write_text(json.dumps(submission), encoding="utf-8")

    def _attempts(self, question: Question) -> dict[str, list[list[int]]]:
        best = [unpack(answer).tolist() for answer in ranked(self.counts.get(question, {}))[:ATTEMPTS]]
        best += (best[:1] or [NO_ANSWER]) * (ATTEMPTS - len(best))
        return {f"attempt_{number}": grid for number, grid in enumerate(best, start=1)}


class VotesByDepth:
    """Votes at every depth of an evaluation: an observer of it, whose findings add up in any order."""

    def __init__(self, directory: str | Path, puzzles: Puzzles, depths: list[int]) -> None:
        """For an ARC data set on disk, whose test split `puzzles` is; raises ValueError as `Votes.read` does."""
        self._puzzles = puzzles
        self.votes = votes_by_depth(directory, depths)

    def observe(self, depth: int, examples_R: np.ndarray, seen: Observation) -> None:
        """Counts the answers of the trajectories that ran on these examples."""
        batch = self._puzzles.rows(examples_R)
        inputs_RS, ids_R = batch.inputs.cpu().numpy(), batch.puzzle_ids.cpu().numpy()
        self.votes[depth].add(inputs_RS, seen.predictions_RS, ids_R, seen.q_halt_R)

    def take(self) -> dict[str, str]:
        """The counts since the last time, by depth, packed as text."""
        taken = {str(depth): _packed(votes.counts) for depth, votes in self.votes.items()}
        for votes in self.votes.values():
            votes.counts = {}
        return taken


def votes_by_depth(directory: str | Path, depths: list[int], taken: Iterable[dict[str, str]] = ()) -> dict[int, Votes]:
    """The votes that `take` returned, all together."""
    votes = Votes.read(directory)
    total = {depth: votes.like() for depth in depths}
    for part in taken:
        for depth, text in part.items():
            total[int(depth)].merge(_unpacked(text))
    return total


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _packed(counts: Counts) -> str:
    rows = [
        [name, _text(question), [[_text(answer), *tally] for answer, tally in answers.items()]]
        for (name, question), answers in counts.items()
    ]
    return _text(zlib.compress(json.dumps(rows).encode()))


def _unpacked(text: str) -> Counts:
    return {
        (name, base64.b64decode(question)): {base64.b64decode(answer): Tally(*tally) for answer, *tally in answers}
        for name, question, answers in json.loads(zlib.decompress(base64.b64decode(text)))
    }
