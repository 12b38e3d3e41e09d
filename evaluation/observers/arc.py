"""ARC: the answers to all augmentations of a test input are mapped back, and vote.

Shapes: N predictions, S tokens of a board. A grid is packed as `dataset.arc.pack` does: equal grids have equal bytes.
"""

import base64
import json
import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from config.json_file import read_json
from config.schema import EvalConfig
from dataset.arc import TASKS, Task, crop, pack, parse_task, split_name, unpack
from dataset.checksums import require_sums
from dataset.puzzles import Puzzles
from evaluation.observations import Findings, Observation

SUBMISSION = "submission.json"

AT = (1, 2, 5, 10, 100, 1000)
"""`ARC/pass@k` is reported for these k: the truth is among the k answers with the most votes."""

ATTEMPTS = 2
KEEP = max(AT) + 24
"""A test input with more than twice as many answers keeps this many of the best."""

UNIT = 2**32
"""Confidences are added as integers, so that the order of the parts does not change a sum."""

NO_ANSWER = [[0]]


class Support(NamedTuple):
    """How often an answer was given, and the sum of its sigmoid(q_halt) in units of 1 / UNIT."""

    votes: int = 0
    confidence: int = 0

    def plus(self, other: "Support") -> "Support":
        """Both together."""
        return Support(self.votes + other.votes, self.confidence + other.confidence)


Question = tuple[str, bytes]
"""A task's name and a test input."""

Counts = dict[Question, dict[bytes, Support]]
"""The answers to every question that was asked."""


def ranked(answers: Mapping[bytes, Support]) -> list[bytes]:
    """The answers with the most votes first, then those with the highest mean confidence, then by their bytes."""

    def rank(answer: bytes) -> tuple[int, float, bytes]:
        support = answers[answer]
        return -support.votes, -support.confidence / support.votes, answer

    return sorted(answers, key=rank)


class Votes:
    """Votes on the test inputs of a data set.

    Memory is bounded. A test input has at most 2 * KEEP answers; of more, the best KEEP survive. Up to 2 * KEEP the
    result depends on no order, and 1000 augmentations give at most 1001 answers.
    """

    def __init__(self, names: list[str], tasks: dict[str, Task]) -> None:
        """`names` are the puzzle identifiers' names, `tasks` the tasks of the test set."""
        self._names, self._tasks = names, tasks
        self._questions = {(name, pack(test.input)) for name, task in tasks.items() for test in task.test}
        self.counts: Counts = {}

    def like(self) -> "Votes":
        """Votes on the same test inputs, none counted yet."""
        return Votes(self._names, self._tasks)

    @classmethod
    def read(cls, directory: str | Path) -> "Votes":
        """Votes on the test inputs of a data set on disk, none counted yet.

        Raises:
            ValueError: an ARC file is missing or wrong; says which and why.
        """
        names_file, tasks_file = (Path(directory) / name for name in ("identifiers.json", TASKS))
        for file in (names_file, tasks_file):
            if not file.is_file():
                raise ValueError(f"{file}: no such file; ARC data is built by `python -m dataset.build_arc_dataset`")
        require_sums(Path(directory), names_file.name, tasks_file.name)
        tasks = read_json(tasks_file, dict).items()
        names = read_json(names_file, list[str])
        return cls(names, {name: parse_task(tasks_file, name, fields) for name, fields in tasks})

    def add(
        self, inputs_NS: np.ndarray, predictions_NS: np.ndarray, puzzle_ids_N: np.ndarray, q_halt_N: np.ndarray
    ) -> None:
        """Counts predictions. The blank puzzle 0 only fills up a batch; an empty grid asks but does not answer.

        Raises:
            ValueError: an input is not in the test set.
        """
        confidences_N = 0.5 + 0.5 * np.tanh(np.nan_to_num(np.asarray(q_halt_N, np.float64)) / 2)
        rows = zip(puzzle_ids_N, crop(inputs_NS), crop(predictions_NS), confidences_N, strict=True)
        for puzzle_id, question_grid, answer_grid, confidence in rows:
            if puzzle_id == 0:
                continue
            if puzzle_id >= len(self._names):
                raise ValueError(f"identifiers.json: has no name for the puzzle identifier {puzzle_id}")
            name = self._names[puzzle_id]
            task, augmentation = split_name(name)
            question = task, pack(augmentation.undo(question_grid))
            if question not in self._questions:
                raise ValueError(f"an input of the puzzle {name} is no test input in {TASKS}")
            answers = self.counts.setdefault(question, {})
            if answer_grid.size:
                answer = pack(augmentation.undo(answer_grid))
                answers[answer] = answers.get(answer, Support()).plus(Support(1, round(confidence * UNIT)))
            if len(answers) > 2 * KEEP:
                self.counts[question] = {best: answers[best] for best in ranked(answers)[:KEEP]}

    def merge(self, counts: Counts) -> None:
        """Adds other counts, in any order."""
        for question, answers in counts.items():
            mine = self.counts.setdefault(question, {})
            for answer, support in answers.items():
                mine[answer] = mine.get(answer, Support()).plus(support)

    def metrics(self) -> dict[str, float]:
        """`ARC/pass@k`: the share of a task's test inputs whose answer is among the k most voted, averaged over tasks.

        Only test inputs that were asked and have a known answer count. Without any the metrics are NaN.
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

    def submission(self) -> str:
        """The two most voted answers to every test input, in Kaggle's JSON format.

        A single answer is both attempts. Without an answer both attempts are one black cell.
        """
        return json.dumps(
            {
                name: [self._attempts((name, pack(test.input))) for test in task.test]
                for name, task in self._tasks.items()
            }
        )

    def _attempts(self, question: Question) -> dict[str, list[list[int]]]:
        best = [unpack(answer).tolist() for answer in ranked(self.counts.get(question, {}))[:ATTEMPTS]]
        best += (best[:1] or [NO_ANSWER]) * (ATTEMPTS - len(best))
        return {f"attempt_{number}": grid for number, grid in enumerate(best, start=1)}


class VotesByDepth:
    """Lets all augmentations of a test input vote, at every depth (observers.Observer)."""

    columns: ClassVar[Mapping[str, str]] = {"ARC pass@1": "ARC/pass@1", "ARC pass@2": "ARC/pass@2"}

    def __init__(self, data: Path, puzzles: Puzzles) -> None:
        """Raises ValueError as `Votes.read` does."""
        self._puzzles = puzzles
        self.votes: defaultdict[int, Votes] = defaultdict(Votes.read(data).like)

    @staticmethod
    def applies(config: EvalConfig, data: Path, puzzles: Puzzles) -> bool:
        """Whether this is the test split of an ARC data set."""
        return config.split == "test" and (data / TASKS).is_file()

    def observe(self, depth: int, examples_R: np.ndarray, observation: Observation) -> None:
        """Counts the answers to these examples."""
        batch = self._puzzles.rows(examples_R)
        inputs_RS, ids_R = batch.inputs.cpu().numpy(), batch.puzzle_ids.cpu().numpy()
        self.votes[depth].add(inputs_RS, observation.predictions_RS, ids_R, observation.q_halt_R)

    def take(self) -> dict[str, str]:
        """The counts since the last call, by depth, packed as text."""
        taken = {str(depth): _packed(votes.counts) for depth, votes in self.votes.items()}
        for votes in self.votes.values():
            votes.counts = {}
        return taken

    @staticmethod
    def finish(taken: Sequence[dict[str, str]], data: Path) -> Findings:
        """pass@k by depth, and the submission of the largest depth. Raises ValueError as `Votes.read` does."""
        votes = votes_by_depth(data, taken)
        metrics = {depth: at_depth.metrics() for depth, at_depth in votes.items()}
        return Findings(metrics, {SUBMISSION: votes[max(votes)].submission()})


def votes_by_depth(data: Path, taken: Iterable[dict[str, str]]) -> dict[int, Votes]:
    """All that `VotesByDepth.take` returned, together."""
    total: defaultdict[int, Votes] = defaultdict(Votes.read(data).like)
    for part in taken:
        for depth, text in part.items():
            total[int(depth)].merge(_unpacked(text))
    return total


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _packed(counts: Counts) -> str:
    rows = [
        [name, _text(question), [[_text(answer), *support] for answer, support in answers.items()]]
        for (name, question), answers in counts.items()
    ]
    return _text(zlib.compress(json.dumps(rows).encode()))


def _unpacked(text: str) -> Counts:
    return {
        (name, base64.b64decode(question)): {
            base64.b64decode(answer): Support(*numbers) for answer, *numbers in answers
        }
        for name, question, answers in json.loads(zlib.decompress(base64.b64decode(text)))
    }
