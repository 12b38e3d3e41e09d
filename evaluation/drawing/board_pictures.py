"""Draws boards that settle: a few puzzles after 1, 2, 4, 8 and 16 iterations, with the wrong cells marked.

Shapes: N puzzles, B starts per puzzle, D iterations, S tokens; a board is n x n cells.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dataset import maze, sudoku
from dataset.boards import Kind, Maze, Sudoku
from evaluation.drawing.pictures import BLUE, GREEN, PURPLE, SKY, VERMILLION, YELLOW, new_figure
from evaluation.drawing.sample import Sample, settled_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 4
_WALL, _PAPER, _WRONG = "#3b3b3b", "#ffffff", "#f9d9c5"


def choose(sample: Sample) -> np.ndarray:
    """Numbers of the puzzles to show: those that the first start solves last, then up to half unsolved ones."""
    settled_N = settled_at(sample.right_DNB[:, :, 0])
    order_N = np.argsort(-settled_N, kind="stable")
    failed = [n for n in order_N if settled_N[n] > sample.depth]
    solved = [n for n in order_N if settled_N[n] <= sample.depth]
    kept = max(SHOWN - len(solved), SHOWN // 2)
    return np.array((solved[: SHOWN - min(len(failed), kept)] + failed[:kept])[:SHOWN])


def wrong_cells(answer_S: np.ndarray, label_S: np.ndarray) -> np.ndarray:
    """The scored cells that differ from the data's answer, bool [S]."""
    return np.asarray((label_S >= 0) & (answer_S != label_S))


def boards(sample: Sample, kind: Kind) -> "Figure":
    """Draws a row of boards per puzzle, a column per depth."""
    depths = sorted({d for d in (1, 2, 4, 8, 16) if d <= sample.depth} | {sample.depth})
    puzzles = choose(sample)
    figure = new_figure(2.7 * len(depths) + 0.5, 2.95 * len(puzzles) + 1)
    look = _LOOKS[type(kind)]
    for panels, n in zip(figure.subplots(len(puzzles), len(depths), squeeze=False), puzzles, strict=True):
        for axes, depth in zip(panels, depths, strict=True):
            answer_S, label_S = sample.answers_DNBS[depth - 1, n, 0], sample.labels_NS[n]
            wrong_S = wrong_cells(answer_S, label_S)
            look.draw(axes, kind, sample.inputs_NS[n], answer_S, wrong_S)
            axes.set(xlim=(0, kind.size), ylim=(kind.size, 0), aspect="equal", xticks=[], yticks=[])
            outcome, colour = (f"{wrong_S.sum()} wrong", VERMILLION) if wrong_S.any() else ("solved", "black")
            axes.set_title(f"depth {depth}: {outcome}", fontsize=13, pad=5, color=colour)
        panels[0].set_ylabel(f"puzzle {n + 1}")
    figure.suptitle(f"Boards that settle, from one random start\n{look.legend}")
    return figure


def _square(axes: "Axes", row: int, column: int, colour: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="none"))


def _sudoku(axes: "Axes", kind: Kind, puzzle_S: np.ndarray, answer_S: np.ndarray, wrong_S: np.ndarray) -> None:
    n = kind.size
    rows, columns = sudoku.BOXES[n]
    font = 150 / n if n < 9 else 14
    for cell, character in enumerate(kind.characters(answer_S)):
        row, column = divmod(cell, n)
        is_clue = puzzle_S[cell] > 1
        colour = VERMILLION if wrong_S[cell] else "black" if is_clue else BLUE
        if wrong_S[cell]:
            _square(axes, row, column, _WRONG)
            axes.plot([column + 0.12, column + 0.88], [row + 0.88, row + 0.12], color=VERMILLION, linewidth=6 / n)
        style: dict[str, Any] = {
            "ha": "center",
            "va": "center_baseline",
            "fontsize": min(font, 22),
            "fontweight": "bold" if is_clue else "normal",
        }
        axes.text(column + 0.5, row + 0.54, character, color=colour, **style)
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
        [cell] = np.flatnonzero(puzzle_S == end)
        size = max(1.1 * 2.5 * 72 / n, 9)  # a little larger than a cell, in points
        style: dict[str, Any] = {"color": colour, "marker": marker, "markeredgecolor": "black"}
        axes.plot(cell % n + 0.5, cell // n + 0.5, markersize=min(size * (1.4 if marker == "*" else 1), 18), **style)


class _Look(NamedTuple):
    """How boards of a kind are drawn, and what the colours mean."""

    draw: "Callable[[Axes, Kind, np.ndarray, np.ndarray, np.ndarray], None]"
    legend: str


_LOOKS: dict[type[Kind], _Look] = {
    Sudoku: _Look(_sudoku, "black: clue; blue: the model's digit; crossed out: wrong"),
    Maze: _Look(
        _maze,
        "green circle: start; purple star: goal; blue: path; orange: wrong path; yellow: any other wrong cell",
    ),
}
