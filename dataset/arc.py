"""ARC: tasks as published, their augmentations, grids as tokens and back.

A grid is [h, w] uint8, colours 0 to 9, 1 to 30 cells a side. As tokens it stands on a board of 30 x 30 cells,
S = 900 in reading order: colour + 2, below the grid and right of it (where they fit) a line that ends it, else 0.
K counts augmentations of one task.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dataset.dihedral import INVERSES, SYMMETRIES, dihedral

SIDE, COLOURS = 30, 10
SEQ_LEN = SIDE * SIDE
PAD, END, FIRST_COLOUR = 0, 1, 2  # tokens
VOCAB_SIZE = FIRST_COLOUR + COLOURS
SEPARATOR = "|||"
PATIENCE = 5  # draws for each augmentation that is wanted, at most


class Example(NamedTuple):
    """A question and its answer, None where it is not known."""

    input: np.ndarray
    output: np.ndarray | None


@dataclass(frozen=True)
class Task:
    """Examples that show a rule, and examples to apply it to."""

    name: str
    train: list[Example]
    test: list[Example]


def read_subset(prefix: str, subset: str) -> list[Task]:
    """The tasks of `<prefix>_<subset>_challenges.json`, answers from `..._solutions.json` where that exists.

    Raises ValueError, in one sentence that names file, task and fault, if anything in them is wrong.
    """
    file, solutions_file = (Path(f"{prefix}_{subset}_{kind}.json") for kind in ("challenges", "solutions"))
    tasks = [parse_task(file, name, fields) for name, fields in _read_object(file).items()]
    if not solutions_file.exists():
        return tasks
    solutions = _read_object(solutions_file)
    solved: list[Task] = []
    for task in tasks:
        where = f"{solutions_file}, task {task.name}"
        answers = solutions.get(task.name)
        if not isinstance(answers, list) or len(answers) != len(task.test):
            given = f"{len(answers)} answers" if isinstance(answers, list) else "no list of answers"
            raise ValueError(f"{where}: holds {given} for {len(task.test)} test inputs")
        grids = [_grid(f"{where}, answer {n}", cells) for n, cells in enumerate(answers, start=1)]
        test = [Example(example.input, output) for example, output in zip(task.test, grids, strict=True)]
        solved.append(Task(task.name, task.train, test))
    return solved


def _read_object(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: is not JSON ({error})") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{file}: holds no tasks by name")
    return content


def parse_task(file: Path, name: str, fields: object) -> Task:
    """One task out of JSON; raises ValueError that names file, task and fault."""
    where = f"{file}, task {name}"
    if not name or SEPARATOR in name:
        raise ValueError(f"{where}: a name must not be empty or hold {SEPARATOR!r}")
    parts: dict[str, list[Example]] = {}
    for part in ("train", "test"):
        examples = fields.get(part) if isinstance(fields, dict) else None
        if not isinstance(examples, list) or not examples:
            raise ValueError(f"{where}: has no {part} examples")
        parts[part] = []
        for number, example in enumerate(examples, start=1):
            here = f"{where}, {part} example {number}"
            if not isinstance(example, dict):
                raise ValueError(f"{here}: is no pair of input and output")
            has_output = part == "train" or "output" in example
            question = _grid(f"{here}, input", example.get("input"))
            answer = _grid(f"{here}, output", example.get("output")) if has_output else None
            parts[part].append(Example(question, answer))
    return Task(name, **parts)


def _grid(where: str, cells: object) -> np.ndarray:
    fine = isinstance(cells, list) and bool(cells) and all(isinstance(row, list) and row for row in cells)
    if not isinstance(cells, list) or not fine:
        raise ValueError(f"{where}: is no grid")
    if len({len(row) for row in cells}) > 1:
        raise ValueError(f"{where}: has rows of different lengths")
    if len(cells) > SIDE or len(cells[0]) > SIDE:
        raise ValueError(f"{where}: has {len(cells)} x {len(cells[0])} cells, more than {SIDE} a side")
    foreign = [cell for row in cells for cell in row if type(cell) is not int or not 0 <= cell < COLOURS]
    if foreign:
        raise ValueError(f"{where}: holds {foreign[0]!r}, which is no colour from 0 to {COLOURS - 1}")
    return np.array(cells, np.uint8)


def task_fields(task: Task) -> dict[str, list[dict[str, list[list[int]]]]]:
    """What `parse_task` reads; an answer that is not known is left out."""

    def fields(example: Example) -> dict[str, list[list[int]]]:
        return {key: grid.tolist() for key, grid in example._asdict().items() if grid is not None}

    return {"train": [fields(e) for e in task.train], "test": [fields(e) for e in task.test]}


def pack(grid: np.ndarray) -> bytes:
    """A grid as a value that can be compared and looked up: height, width, colours."""
    return bytes(grid.shape) + grid.astype(np.uint8).tobytes()


def unpack(packed: bytes) -> np.ndarray:
    """The inverse of `pack`."""
    return np.frombuffer(packed, np.uint8, offset=2).reshape(packed[0], packed[1])


class Augmentation(NamedTuple):
    """A symmetry of the square (`dataset.dihedral`), and what each colour becomes."""

    symmetry: int
    colours: bytes

    def apply(self, grid: np.ndarray) -> np.ndarray:
        """The augmented grid."""
        return np.frombuffer(self.colours, np.uint8)[dihedral(grid, self.symmetry)]

    def undo(self, grid: np.ndarray) -> np.ndarray:
        """The grid that `apply` turns into this one."""
        back = np.argsort(np.frombuffer(self.colours, np.uint8)).astype(np.uint8)
        return dihedral(back[grid], INVERSES[self.symmetry])

    def name(self, task: str) -> str:
        """What the augmented task is called."""
        return SEPARATOR.join([task, f"t{self.symmetry}", "".join(map(str, self.colours))])


IDENTITY = Augmentation(0, bytes(range(COLOURS)))


def split_name(name: str) -> tuple[str, Augmentation]:
    """The task and the augmentation that a puzzle's name speaks of; raises ValueError if it is no such name."""
    task, *parts = name.split(SEPARATOR)
    if not parts:
        return task, IDENTITY
    known = [f"t{symmetry}" for symmetry in range(SYMMETRIES)]
    if len(parts) != 2 or parts[0] not in known or sorted(parts[1]) != list("0123456789"):
        raise ValueError(f"{name!r} is no name of an ARC puzzle")
    return task, Augmentation(known.index(parts[0]), bytes(map(int, parts[1])))


def draw_augmentations(task: Task, count: int, rng: np.random.Generator) -> list[Augmentation]:
    """The identity, then up to `count` that make different tasks of it, in any order of examples; colour 0 stays."""

    def content(example: Example, symmetry: int) -> bytes:  # sides lie above the colours, whose map spares them
        turned = [dihedral(grid, symmetry) for grid in example if grid is not None]
        return b"".join(bytes(side + COLOURS for side in grid.shape) + grid.tobytes() for grid in turned)

    contents = [[content(example, symmetry) for example in (*task.train, *task.test)] for symmetry in range(SYMMETRIES)]

    def digest(symmetry: int, colours: bytes) -> bytes:
        table = colours + bytes(range(COLOURS, 256))
        return blake2b(b"".join(sorted(example.translate(table) for example in contents[symmetry]))).digest()

    found, seen = [IDENTITY], {digest(*IDENTITY)}
    for _ in range(PATIENCE * count):
        if len(found) > count:
            break
        symmetry, colours = int(rng.integers(SYMMETRIES)), bytes([0, *(rng.permutation(COLOURS - 1) + 1).tolist()])
        same = digest(symmetry, colours)
        if same not in seen:
            seen.add(same)
            found.append(Augmentation(symmetry, colours))
    return found


def encode(grid: np.ndarray, augmentations: Sequence[Augmentation], corners_K2: np.ndarray | None = None) -> np.ndarray:
    """The tokens of a grid under each augmentation, [K, S] uint8, its top left cell at a row and a column [K, 2]."""
    K, side = len(augmentations), SIDE + 1  # a line more each way takes the ends that do not fit
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
    """From each board the largest rectangle of colours at its top left; of equal ones the lowest. May be empty."""
    boards = np.asarray(tokens_NS).reshape(-1, SIDE, SIDE)
    colours = boards - FIRST_COLOUR
    ends = (boards < FIRST_COLOUR) | (boards >= VOCAB_SIZE)
    widths = np.where(ends.any(-1), ends.argmax(-1), SIDE)  # of every row, then of all rows down to it
    widths = np.minimum.accumulate(widths, axis=1)
    heights = (widths * np.arange(1, SIDE + 1)).argmax(-1) + 1
    return [
        board[:height, : width[height - 1]].astype(np.uint8)
        for board, height, width in zip(colours, heights, widths, strict=True)
    ]
