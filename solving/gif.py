"""Writes a board as a GIF, one picture per iteration. Needs Pillow, which comes with matplotlib."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dataset.boards import Kind, Maze, Sudoku
from dataset.sudoku import BOXES
from runtime.files import whole
from solving.answers import Trace
from solving.watch import Frame, frames

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

# Colours that colour-blind people can tell apart (after Okabe and Ito).
_INK, _PAPER, _THIN = "#000000", "#ffffff", "#bbbbbb"
_ANSWER, _CHANGED = "#0072b2", "#f6c945"
_GROUND = {"#": "#3b3b3b", "o": "#56b4e9", "S": "#009e73", "G": "#d55e00"}
_MARGIN, _CAPTION, _LEAST_WIDTH = 12, 26, 330
_MILLISECONDS, _LAST_MILLISECONDS = 250, 2500


class _Canvas(NamedTuple):
    """A picture of a board."""

    draw: "ImageDraw"
    pixels: int  # side of a cell
    font: "FreeTypeFont | ImageFont"


def write_gif(file: Path, kind: Kind, puzzle_S: np.ndarray, trace: Trace) -> None:
    """Writes an endless GIF: the puzzle, then the board after each iteration, changed cells marked, then a pause.

    If this fails, the file stays as it was.

    Raises:
        OSError: the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    pixels = max(12, 360 // kind.size)
    side = pixels * kind.size
    large, small = (ImageFont.load_default(size) for size in (round(pixels * 0.6), 13))
    images = []
    for frame in frames(puzzle_S, trace):
        image = Image.new("RGB", (max(side, _LEAST_WIDTH) + 2 * _MARGIN, side + 2 * _MARGIN + _CAPTION), _PAPER)
        draw = ImageDraw.Draw(image)
        _DRAW_BOARD[type(kind)](_Canvas(draw, pixels, large), kind, puzzle_S, frame)
        draw.text((_MARGIN, side + 2 * _MARGIN), frame.caption, _INK, small)
        images.append(image.quantize(64, dither=Image.Dither.NONE))
    pauses = [_MILLISECONDS] * (len(images) - 1) + [_LAST_MILLISECONDS]
    with whole(file) as unfinished:
        images[0].save(unfinished, "GIF", save_all=True, append_images=images[1:], duration=pauses, loop=0)


def _draw_sudoku(canvas: _Canvas, kind: Kind, puzzle_S: np.ndarray, frame: Frame) -> None:
    """Clues are black, the model's digits blue, changed cells yellow."""
    draw, pixels, font = canvas
    for cell, character in enumerate(kind.characters(frame.tokens_S)):
        y, x = (_MARGIN + pixels * i for i in divmod(cell, kind.size))
        draw.rectangle((x, y, x + pixels, y + pixels), _CHANGED if frame.changed_S[cell] else _PAPER, _THIN)
        ink = _INK if puzzle_S[cell] > 1 else _ANSWER
        draw.text((x + pixels / 2, y + pixels / 2), character.replace(".", ""), ink, font, anchor="mm")
    rows, columns = BOXES[kind.size]
    side = pixels * kind.size
    for i in range(0, kind.size + 1, rows):
        draw.line((_MARGIN, _MARGIN + i * pixels, _MARGIN + side, _MARGIN + i * pixels), _INK, 2)
    for i in range(0, kind.size + 1, columns):
        draw.line((_MARGIN + i * pixels, _MARGIN, _MARGIN + i * pixels, _MARGIN + side), _INK, 2)


def _draw_maze(canvas: _Canvas, kind: Kind, puzzle_S: np.ndarray, frame: Frame) -> None:
    """Walls are dark, the path blue, start and goal green and red with their letters; a yellow dot marks a change."""
    draw, pixels, font = canvas
    third = pixels // 3
    for cell, character in enumerate(kind.characters(frame.tokens_S)):
        y, x = (_MARGIN + pixels * i for i in divmod(cell, kind.size))
        draw.rectangle((x, y, x + pixels - 1, y + pixels - 1), _GROUND.get(character, _PAPER))
        if frame.changed_S[cell]:
            draw.rectangle((x + third, y + third, x + pixels - third, y + pixels - third), _CHANGED)
        elif character in "SG?":
            draw.text((x + pixels / 2, y + pixels / 2), character, _INK, font, anchor="mm")


_DRAW_BOARD: dict[type[Kind], Callable[[_Canvas, Kind, np.ndarray, Frame], None]] = {
    Sudoku: _draw_sudoku,
    Maze: _draw_maze,
}
