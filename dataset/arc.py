"""ARC: reads the published tasks, augments them, and turns grids into tokens and back.

A grid is [h, w] uint8, colours 0 to 9, 1 to 30 cells per side. As tokens it lies on a board of 30 x 30 cells,
S = 900 in reading order. Colour c is token c + 2. A row of END tokens below the grid and a column right of it
close the grid, if they fit. All other tokens are PAD. K counts augmentations of one task, N boards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from config.json_file import read_json
from dataset.dihedral import INVERSES, SYMMETRIES, dihedral
from dataset.layout import Split

SIDE, COLOURS = 30, 10
SEQ_LEN = SIDE * SIDE
PAD, END, FIRST_COLOUR = 0, 1, 2  # tokens
VOCAB_SIZE = FIRST_COLOUR + COLOURS
SEPARATOR = "|||"
TASKS = "test_puzzles.json"
"""The tasks of the test set, beside the splits. Only ARC data sets have this file."""
PATIENCE = 5  # most draws per augmentation


NOT_KNOWN = np.zeros((1, 1), np.uint8)
"""Stands for an unknown answer, so that the test example can still be asked."""


class Example(NamedTuple):
    """A question and its answer, or None if the answer is unknown."""

    input: np.ndarray
    output: np.ndarray | None


@dataclass(frozen=True)
class Task:
    """Examples that show a rule, and examples to apply it to."""

    name: str
    train: list[Example]
    test: list[Example]


def read_subset(prefix: str, subset: str) -> list[Task]:
    """The tasks of one of two layouts: Kaggle's two files, or a folder with a file for each task.

    These are `<prefix>_<subset>_challenges.json`, with the answers of `..._solutions.json` if that exists, and
    `<prefix>/<subset>/**/<task>.json`, as ARC-AGI and ConceptARC publish their tasks.

    Raises:
        ValueError: a file is wrong. The sentence names file, task and fault.
    """
    file, solutions_file = (Path(f"{prefix}_{subset}_{kind}.json") for kind in ("challenges", "solutions"))
    folder = Path(prefix, subset)
    if not file.exists() and folder.is_dir():
        return _read_folder(folder)
    if not file.exists():
        raise ValueError(f"{file}: no such file, and {folder} is no folder of tasks")
    tasks = [parse_task(file, name, fields) for name, fields in _read_object(file).items()]
    if not solutions_file.exists():
        return tasks
    solutions = _read_object(solutions_file)
    solved: list[Task] = []
    for task in tasks:
        origin = f"{solutions_file}, task {task.name}"
        answers = solutions.get(task.name)
        if not isinstance(answers, list) or len(answers) != len(task.test):
            content = f"{len(answers)} answers" if isinstance(answers, list) else "no list of answers"
            raise ValueError(f"{origin}: holds {content} for {len(task.test)} test inputs")
        grids = [_grid(f"{origin}, answer {n}", cells) for n, cells in enumerate(answers, start=1)]
        test = [Example(example.input, output) for example, output in zip(task.test, grids, strict=True)]
        solved.append(Task(task.name, task.train, test))
    return solved


def _read_folder(folder: Path) -> list[Task]:
    files: dict[str, Path] = {}
    for file in sorted(folder.rglob("*.json")):
        other = files.setdefault(file.stem, file)
        if other != file:
            raise ValueError(f"{file}: the task {file.stem} is also in {other}")
    if not files:
        raise ValueError(f"{folder}: holds no tasks (*.json)")
    return [parse_task(file, name, read_json(file, dict)) for name, file in files.items()]


def _read_object(file: Path) -> dict[str, Any]:
    content = read_json(file, dict)
    if not content:
        raise ValueError(f"{file}: holds no tasks by name")
    return content


def parse_task(file: Path, name: str, fields: object) -> Task:
    """A task from its JSON fields.

    Raises:
        ValueError: the fields are wrong. The sentence names file, task and fault.
    """
    origin = f"{file}, task {name}"
    if not name or SEPARATOR in name:
        raise ValueError(f"{origin}: a name must not be empty or hold {SEPARATOR!r}")
    parts: dict[str, list[Example]] = {}
    for part in ("train", "test"):
        examples = fields.get(part) if isinstance(fields, dict) else None
        if not isinstance(examples, list) or not examples:
            raise ValueError(f"{origin}: has no {part} examples")
        parts[part] = []
        for number, example in enumerate(examples, start=1):
            example_origin = f"{origin}, {part} example {number}"
            if not isinstance(example, dict):
                raise ValueError(f"{example_origin}: is no pair of input and output")
            has_output = part == "train" or "output" in example
            question = _grid(f"{example_origin}, input", example.get("input"))
            answer = _grid(f"{example_origin}, output", example.get("output")) if has_output else None
            parts[part].append(Example(question, answer))
    return Task(name, **parts)


def _grid(origin: str, cells: object) -> np.ndarray:
    if not isinstance(cells, list) or not cells or not all(isinstance(row, list) and row for row in cells):
        raise ValueError(f"{origin}: is no grid")
    if len({len(row) for row in cells}) > 1:
        raise ValueError(f"{origin}: has rows of different lengths")
    if len(cells) > SIDE or len(cells[0]) > SIDE:
        raise ValueError(f"{origin}: has {len(cells)} x {len(cells[0])} cells, more than {SIDE} a side")
    foreign = [cell for row in cells for cell in row if type(cell) is not int or not 0 <= cell < COLOURS]
    if foreign:
        raise ValueError(f"{origin}: holds {foreign[0]!r}, which is no colour from 0 to {COLOURS - 1}")
    return np.array(cells, np.uint8)


def task_fields(task: Task) -> dict[str, list[dict[str, list[list[int]]]]]:
    """The JSON fields of a task, without unknown answers: the inverse of `parse_task`."""

    def fields(example: Example) -> dict[str, list[list[int]]]:
        return {key: grid.tolist() for key, grid in example._asdict().items() if grid is not None}

    return {"train": [fields(e) for e in task.train], "test": [fields(e) for e in task.test]}


def pack(grid: np.ndarray) -> bytes:
    """A grid as bytes, to compare and to look up: height, width, colours."""
    return bytes(grid.shape) + grid.astype(np.uint8).tobytes()


def unpack(packed: bytes) -> np.ndarray:
    """The grid of these bytes: the inverse of `pack`."""
    return np.frombuffer(packed, np.uint8, offset=2).reshape(packed[0], packed[1])


class Augmentation(NamedTuple):
    """A symmetry of the square (`dataset.dihedral`), and the new colour for each colour."""

    symmetry: int
    colours: bytes

    def apply(self, grid: np.ndarray) -> np.ndarray:
        """Augments a grid."""
        return np.frombuffer(self.colours, np.uint8)[dihedral(grid, self.symmetry)]

    def undo(self, grid: np.ndarray) -> np.ndarray:
        """Restores a grid: the inverse of `apply`."""
        back = np.argsort(np.frombuffer(self.colours, np.uint8)).astype(np.uint8)
        return dihedral(back[grid], INVERSES[self.symmetry])

    def name(self, task: str) -> str:
        """The name of the augmented task."""
        return SEPARATOR.join([task, f"t{self.symmetry}", "".join(map(str, self.colours))])


IDENTITY = Augmentation(0, bytes(range(COLOURS)))


def split_name(name: str) -> tuple[str, Augmentation]:
    """The task and the augmentation in a puzzle's name.

    Raises:
        ValueError: it is no name of an ARC puzzle.
    """
    task, *parts = name.split(SEPARATOR)
    if not parts:
        return task, IDENTITY
    known = [f"t{symmetry}" for symmetry in range(SYMMETRIES)]
    if len(parts) != 2 or parts[0] not in known or sorted(parts[1]) != list("0123456789"):
        raise ValueError(f"{name!r} is no name of an ARC puzzle")
    return task, Augmentation(known.index(parts[0]), bytes(map(int, parts[1])))


def draw_augmentations(task: Task, count: int, rng: np.random.Generator) -> list[Augmentation]:
    """The identity, then up to `count` random augmentations. Each makes a task with different examples.

    Colour 0 stays. The order of examples does not count as a difference.
    """

    def content(example: Example, symmetry: int) -> bytes:
        # Sides are stored above all colours, so that the map of colours leaves them alone.
        turned = [dihedral(grid, symmetry) for grid in example if grid is not None]
        return b"".join(bytes(side + COLOURS for side in grid.shape) + grid.tobytes() for grid in turned)

    contents = [[content(example, symmetry) for example in (*task.train, *task.test)] for symmetry in range(SYMMETRIES)]

    def digest(symmetry: int, colours: bytes) -> bytes:
        table = colours + bytes(range(COLOURS, 256))
        return blake2b(b"".join(sorted(example.translate(table) for example in contents[symmetry]))).digest()

    augmentations, digests = [IDENTITY], {digest(*IDENTITY)}
    for _ in range(PATIENCE * count):
        if len(augmentations) > count:
            break
        symmetry, colours = int(rng.integers(SYMMETRIES)), bytes([0, *(rng.permutation(COLOURS - 1) + 1).tolist()])
        if (augmented := digest(symmetry, colours)) not in digests:
            digests.add(augmented)
            augmentations.append(Augmentation(symmetry, colours))
    return augmentations


def encode(grid: np.ndarray, augmentations: Sequence[Augmentation], corners_K2: np.ndarray | None = None) -> np.ndarray:
    """The tokens of a grid under each augmentation, [K, S] uint8.

    `corners_K2` are the row and column of the grid's top left cell; by default the board's corner.
    """
    K, side = len(augmentations), SIDE + 1  # an extra row and column hold the END tokens that do not fit
    board_KC = np.zeros((K, side * side), np.uint8)
    symmetries_K = np.array([augmentation.symmetry for augmentation in augmentations])
    colours_KV = np.array([list(augmentation.colours) for augmentation in augmentations], np.uint8)
    tokens_KV = np.pad(colours_KV + np.uint8(FIRST_COLOUR), ((0, 0), (FIRST_COLOUR, 0)))
    tokens_KV[:, END] = END
    first_K = np.zeros(K, np.int64) if corners_K2 is None else corners_K2 @ np.array([side, 1])
    for symmetry in np.unique(symmetries_K):
        k = np.flatnonzero(symmetries_K == symmetry)[:, None]
        ended = np.pad(dihedral(grid, int(symmetry)) + np.uint8(FIRST_COLOUR), (0, 1), constant_values=END)
        ended[-1, -1] = PAD
        rows, columns = np.indices(ended.shape).reshape(2, -1)
        board_KC[k, first_K[k] + rows * side + columns] = tokens_KV[k, ended.reshape(-1)]
    return board_KC.reshape(K, side, side)[:, :SIDE, :SIDE].reshape(K, SEQ_LEN)


def crop(tokens_NS: np.ndarray) -> list[np.ndarray]:
    """The largest rectangle of colours at the top left of each board. It may be empty.

    Of several largest rectangles, the one of least height wins.
    """
    boards = np.asarray(tokens_NS).reshape(-1, SIDE, SIDE)
    colours = boards - FIRST_COLOUR
    ends = (boards < FIRST_COLOUR) | (boards >= VOCAB_SIZE)
    widths = np.where(ends.any(-1), ends.argmax(-1), SIDE)  # of each row alone
    widths = np.minimum.accumulate(widths, axis=1)  # of all rows down to this one
    heights = (widths * np.arange(1, SIDE + 1)).argmax(-1) + 1
    return [
        board[:height, : width[height - 1]].astype(np.uint8)
        for board, height, width in zip(colours, heights, widths, strict=True)
    ]


def unanswered(directory: str | Path, split: Split) -> np.ndarray:
    """Which examples of a split have `NOT_KNOWN` in place of their answer, bool [E].

    An answer that looks like it counts as known if the data set's tasks hold it, but not if all answers look like it.

    Raises:
        ValueError: a file that names the tasks is wrong.
    """
    nothing_E, tasks_file = np.zeros(len(split.labels), bool), Path(directory, TASKS)
    if (split.metadata.seq_len, split.metadata.vocab_size) != (SEQ_LEN, VOCAB_SIZE) or not tasks_file.is_file():
        return nothing_E
    [stand_in_S] = encode(NOT_KNOWN, [IDENTITY])
    alike_E = nothing_E.copy()
    for first in range(0, len(alike_E), 10_000):
        rows = slice(first, first + 10_000)
        alike_E[rows] = (split.labels[rows] == stand_in_S).all(1)
    if not alike_E.any() or alike_E.all():
        return alike_E
    names, tasks = read_json(Path(directory, "identifiers.json"), list), read_json(tasks_file, dict)
    parsed = {name: parse_task(tasks_file, name, fields) for name, fields in tasks.items()}
    for example in np.flatnonzero(alike_E):
        puzzle = int(np.searchsorted(split.puzzle_indices, example, side="right")) - 1
        task = parsed.get(split_name(names[split.puzzle_identifiers[puzzle]])[0])
        index = int(example - split.puzzle_indices[puzzle])
        alike_E[example] = task is None or index >= len(task.test) or task.test[index].output is None
    return alike_E
