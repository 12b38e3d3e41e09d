"""Boards that settle: a few puzzles, each after 1, 2, 4, 8, 16 iterations, with the wrong cells marked.

Shapes: N puzzles, B starts a puzzle, D iterations, S tokens of a board of n x n cells.
"""

from math import isqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from dataset import maze, sudoku
from dataset.boards import Kind, Maze, Sudoku
from evaluation.drawing.curves import settled_at
from evaluation.drawing.pictures import BLUE, GREEN, PURPLE, SKY, VERMILLION, YELLOW, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evaluation.drawing.sample import Sample

SHOWN = 4
_WALL, _PAPER, _WRONG = "#3b3b3b", "#ffffff", "#f9d9c5"


def kind_of(inputs_NS: np.ndarray, vocab_size: int) -> Kind | None:
    """What the boards are; None where they are neither Sudokus nor mazes."""
    size = isqrt(inputs_NS.shape[1])
    if size * size != inputs_NS.shape[1]:
        return None
    if vocab_size == maze.VOCAB_SIZE and all(
        (np.sum(inputs_NS == end, 1) == 1).all() for end in (maze.START, maze.GOAL)
    ):
        return Maze(size)
    return Sudoku(size) if size in sudoku.BOXES and vocab_size == size + 2 else None


def choose(sample: "Sample") -> np.ndarray:
    """Puzzles to show: first those that the first start solves last, then up to half that it does not solve."""
    settled_N = settled_at(sample.right_DNB[:, :, 0])
    order_N = np.argsort(-settled_N, kind="stable")
    failed = [n for n in order_N if settled_N[n] > sample.depth]
    solved = [n for n in order_N if settled_N[n] <= sample.depth]
    kept = max(SHOWN - len(solved), SHOWN // 2)
    return np.array((solved[: SHOWN - min(len(failed), kept)] + failed[:kept])[:SHOWN])


def wrong_cells(answer_S: np.ndarray, label_S: np.ndarray) -> np.ndarray:
    """Which scored cells differ from the data's answer, bool [S]."""
    return np.asarray((label_S >= 0) & (answer_S != label_S))


def boards(sample: "Sample", kind: Kind) -> "Figure":
    """A row a puzzle, a column a depth."""
    depths = sorted({d for d in (1, 2, 4, 8, 16) if d <= sample.depth} | {sample.depth})
    puzzles = choose(sample)
    figure = new_figure(2.7 * len(depths) + 0.5, 2.95 * len(puzzles) + 1)
    draw = _maze if isinstance(kind, Maze) else _sudoku
    for panels, n in zip(figure.subplots(len(puzzles), len(depths), squeeze=False), puzzles, strict=True):
        for axes, depth in zip(panels, depths, strict=True):
            answer_S, label_S = sample.answers_DNBS[depth - 1, n, 0], sample.labels_NS[n]
            wrong_S = wrong_cells(answer_S, label_S)
            draw(axes, kind, sample.inputs_NS[n], answer_S, wrong_S)
            axes.set(xlim=(0, kind.size), ylim=(kind.size, 0), aspect="equal", xticks=[], yticks=[])
            said = f"{wrong_S.sum()} wrong" if wrong_S.any() else "solved"
            axes.set_title(f"depth {depth}: {said}", fontsize=13, pad=5, color=VERMILLION if wrong_S.any() else "black")
        panels[0].set_ylabel(f"puzzle {n + 1}")
    legend = _MAZE_LEGEND if isinstance(kind, Maze) else _SUDOKU_LEGEND
    figure.suptitle(f"Boards that settle, from one random start\n{legend}")
    return figure


_SUDOKU_LEGEND = "black: clue; blue: the model's digit; crossed out: wrong"
_MAZE_LEGEND = (
    "green circle: start; purple star: goal; blue: path; orange: path where none is; yellow: any other wrong cell"
)


def _square(axes: "Axes", row: int, column: int, colour: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="none"))


def _sudoku(axes: "Axes", kind: Kind, puzzle_S: np.ndarray, answer_S: np.ndarray, wrong_S: np.ndarray) -> None:
    n = kind.size
    rows, columns = sudoku.BOXES[n]
    font = 150 / n if n < 9 else 14
    for place, character in enumerate(kind.characters(answer_S)):
        row, column = divmod(place, n)
        given = puzzle_S[place] > 1
        colour = VERMILLION if wrong_S[place] else "black" if given else BLUE
        if wrong_S[place]:
            _square(axes, row, column, _WRONG)
            axes.plot([column + 0.12, column + 0.88], [row + 0.88, row + 0.12], color=VERMILLION, linewidth=6 / n)
        weight = "bold" if given else "normal"
        middle: dict[str, Any] = {
            "ha": "center",
            "va": "center_baseline",
            "fontsize": min(font, 22),
            "fontweight": weight,
        }
        axes.text(column + 0.5, row + 0.54, character, color=colour, **middle)
    for line in range(n + 1):
        axes.axhline(line, color="black", linewidth=2 if line % rows == 0 else 0.5)
        axes.axvline(line, color="black", linewidth=2 if line % columns == 0 else 0.5)


def _maze(axes: "Axes", kind: Kind, puzzle_S: np.ndarray, answer_S: np.ndarray, wrong_S: np.ndarray) -> None:
    from matplotlib.colors import to_rgb

    n = kind.size
    pixels_SC = np.array([to_rgb(_WALL if token == maze.WALL else _PAPER) for token in puzzle_S])
    marked_S = answer_S == maze.PATH
    pixels_SC[marked_S & ~wrong_S] = to_rgb(SKY)
    pixels_SC[marked_S & wrong_S] = to_rgb(VERMILLION)
    pixels_SC[~marked_S & wrong_S] = to_rgb(YELLOW)
    axes.imshow(pixels_SC.reshape(n, n, 3), extent=(0, n, n, 0), interpolation="nearest")
    for end, colour, marker in ((maze.START, GREEN, "o"), (maze.GOAL, PURPLE, "*")):
        [place] = np.flatnonzero(puzzle_S == end)
        size = max(1.1 * 2.5 * 72 / n, 9)  # a little larger than a cell, in points
        look: dict[str, Any] = {"color": colour, "marker": marker, "markeredgecolor": "black"}
        axes.plot(place % n + 0.5, place // n + 0.5, markersize=min(size * (1.4 if marker == "*" else 1), 18), **look)
