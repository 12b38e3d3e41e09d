"""A board that settles, as a GIF: a picture an iteration. Needs Pillow, which comes with matplotlib."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dataset.boards import Kind, Maze
from dataset.sudoku import BOXES
from runtime.files import whole
from solving.watch import Frame, frames

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    from solving.solver import Trace

# colours that the colour-blind tell apart (after Okabe and Ito)
_INK, _PAPER, _THIN = "#000000", "#ffffff", "#bbbbbb"
_ANSWER, _CHANGED = "#0072b2", "#f6c945"
_GROUND = {"#": "#3b3b3b", "o": "#56b4e9", "S": "#009e73", "G": "#d55e00"}
_MARGIN, _CAPTION, _LEAST_WIDTH = 12, 26, 330
_MILLISECONDS, _LAST_MILLISECONDS = 250, 2500


def write_gif(file: Path, kind: Kind, puzzle_S: np.ndarray, trace: "Trace") -> None:
    """Writes an endless GIF: the puzzle, the board after each iteration with changed cells marked, a rest.

    If this fails, the file is as it was before.

    Raises:
        OSError: the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    cell = max(12, 360 // kind.size)
    side = cell * kind.size
    large, small = (ImageFont.load_default(size) for size in (round(cell * 0.6), 13))
    images = []
    for frame in frames(puzzle_S, trace):
        image = Image.new("RGB", (max(side, _LEAST_WIDTH) + 2 * _MARGIN, side + 2 * _MARGIN + _CAPTION), _PAPER)
        draw = ImageDraw.Draw(image)
        (_draw_maze if isinstance(kind, Maze) else _draw_sudoku)(draw, kind, puzzle_S, frame, cell, large)
        draw.text((_MARGIN, side + 2 * _MARGIN), frame.caption, _INK, small)
        images.append(image.quantize(64, dither=Image.Dither.NONE))
    pauses = [_MILLISECONDS] * (len(images) - 1) + [_LAST_MILLISECONDS]
    with whole(file) as unfinished:
        images[0].save(unfinished, "GIF", save_all=True, append_images=images[1:], duration=pauses, loop=0)


def _draw_sudoku(
    draw: "ImageDraw",
    kind: Kind,
    puzzle_S: np.ndarray,
    frame: Frame,
    cell: int,
    font: "FreeTypeFont | ImageFont",
) -> None:
    """Clues black, the model's digits blue, changed cells yellow."""
    for place, character in enumerate(kind.characters(frame.tokens_S)):
        y, x = (_MARGIN + cell * i for i in divmod(place, kind.size))
        draw.rectangle((x, y, x + cell, y + cell), _CHANGED if frame.changed_S[place] else _PAPER, _THIN)
        ink = _INK if puzzle_S[place] > 1 else _ANSWER
        draw.text((x + cell / 2, y + cell / 2), character.replace(".", ""), ink, font, anchor="mm")
    rows, columns = BOXES[kind.size]
    side = cell * kind.size
    for i in range(0, kind.size + 1, rows):
        draw.line((_MARGIN, _MARGIN + i * cell, _MARGIN + side, _MARGIN + i * cell), _INK, 2)
    for i in range(0, kind.size + 1, columns):
        draw.line((_MARGIN + i * cell, _MARGIN, _MARGIN + i * cell, _MARGIN + side), _INK, 2)


def _draw_maze(
    draw: "ImageDraw",
    kind: Kind,
    puzzle_S: np.ndarray,
    frame: Frame,
    cell: int,
    font: "FreeTypeFont | ImageFont",
) -> None:
    """Walls dark, the path blue, start and goal green and red with their letters, a yellow dot where it changed."""
    for place, character in enumerate(kind.characters(frame.tokens_S)):
        y, x = (_MARGIN + cell * i for i in divmod(place, kind.size))
        draw.rectangle((x, y, x + cell - 1, y + cell - 1), _GROUND.get(character, _PAPER))
        if frame.changed_S[place]:
            draw.rectangle((x + cell // 3, y + cell // 3, x + cell - cell // 3, y + cell - cell // 3), _CHANGED)
        elif character in "SG?":
            draw.text((x + cell / 2, y + cell / 2), character, _INK, font, anchor="mm")
