"""What a line of a Sudoku's text is: a whole Sudoku, a row of one, or none of it.

Sudopedia's rule finds the cells of a line: whatever is neither a digit nor a blank sign is dropped. Here the cells
must also be evenly spaced: one by one, box by box, or all together. So a rating, a name or a remark is no cell.
"""

import re
import unicodedata
from enum import Enum, auto
from math import isqrt
from typing import NamedTuple

from dataset.sudoku import BOXES

WHOLE = frozenset(size * size for size in BOXES)
"""Numbers of cells that make a Sudoku."""
DIGITS, SIGNS = "0123456789", "._*xX-?"
"""What a cell may be. A sign, or 0, stands for a blank."""
CELLS = re.compile(r"[0-9._*xX?-]+")

_SEPARATORS = re.compile(r"(?:\\[nrt]|[\s,;|/\\\[\](){}<>\"'`=:!&])+")
_FLOAT = re.compile(r"[0-9]\.0*")
_AROUND = re.compile(r"\x1b\[[0-9;]*m|^\s*-\s+(?=[\[\"'])")
"""Colours of a terminal, and the dash before an item of a list."""
_NOTHING = re.compile(r"\b(?:null|None|nil|NaN|nan)\b")
_COMMENT, _REMARK, _RULER = re.compile(r"\s*(?:[#;%!]|//)"), re.compile(r"(?:\s#|(?<!:)//).*"), re.compile("--|==|__")
_LONG = 12
"""A token with so many digits and blanks was meant as a Sudoku, not as a number or a date."""


class Is(Enum):
    """What a line is."""

    WHOLE = auto()  # a whole Sudoku
    ROW = auto()
    BLANKS = auto()  # a row of blanks, or a ruler
    GAP = auto()  # an empty line, or a ruler
    NOTE = auto()  # a comment, a heading, a count
    ODD = auto()  # cells, but neither a row nor a Sudoku


class Read(NamedTuple):
    """A line with its number, what it is on its own, and its cells."""

    number: int
    text: str
    what: Is
    cells: str


def _plain(code: int) -> str:
    name = unicodedata.name(chr(code))
    return "|" if name.endswith("VERTICAL") else "=" if name.endswith("HORIZONTAL") else "+"


_PICTURES = str.maketrans(
    {chr(code): _plain(code) for code in range(0x2500, 0x2580)}  # box drawings
    | dict.fromkeys("·•∙⋅□▢◻␣", ".")
    | dict.fromkeys("–—", "-")
    | dict.fromkeys("¦‖", "|")
    | dict.fromkeys("\u00a0\u3000", " ")
)


def tokens(text: str) -> list[str]:
    """The parts of a line between spaces and punctuation, numbers as 5. or 5.0 without their points.

    A + before a digit marks a placed one, and is dropped.
    """
    parts = [token for token in _SEPARATORS.split(text.replace("+", "")) if token]
    floats = len(parts) in WHOLE | BOXES.keys() and all(map(_FLOAT.fullmatch, parts))
    return [part[0] for part in parts] if floats else parts


def is_long(text: str) -> bool:
    """Whether a line was meant as a whole Sudoku."""
    return any(_cells_in(token) >= _LONG for token in tokens(text))


def read_line(number: int, raw: str) -> Read:
    """A line, and what it is as far as it alone can tell."""
    text = _NOTHING.sub(".", _AROUND.sub("", raw.translate(_PICTURES)))
    if not text.strip():
        return Read(number, text, Is.GAP, "")
    if _COMMENT.match(text):
        return Read(number, text, Is.NOTE, "")
    remarkless = _REMARK.sub("", text)
    has_digit, has_dot = any(c in remarkless for c in DIGITS), "." in remarkless
    if has_digit or has_dot and not _RULER.search(remarkless):
        return Read(number, text, *_with_cells(remarkless))
    return Read(number, text, *_without_digits(remarkless))


def _without_digits(text: str) -> tuple[Is, str]:
    parts = tokens(text)
    cells = _even(parts)
    if cells and len(set(cells)) == 1 and set(cells) <= set(SIGNS) and "+" not in text:
        return (Is.BLANKS if len(cells) in BOXES else Is.GAP), cells
    return (Is.NOTE if any(c.isalpha() for c in text) else Is.GAP), ""


def _with_cells(text: str) -> tuple[Is, str]:
    parts = tokens(text)
    cells = [part for part in parts if CELLS.fullmatch(part)]
    words = [part for part in parts if not CELLS.fullmatch(part)]
    if any(len(part) in WHOLE and _cells_in(part) for part in cells):
        return _boards(parts)
    even, labelled = _even(cells), len(words) <= 1 or any(c in text for c in "[{")
    if even and labelled and len(even) in WHOLE:
        return Is.WHOLE, even
    if even and labelled and (not words or len(cells) == len(even) or len(even) == 9):
        return Is.ROW, even
    nines = [part for part in cells if len(part) == 9]
    if len(nines) == 1 and all(part.isdigit() and len(part) < 4 for part in cells if part not in nines):
        return Is.ROW, nines[0]
    only_spaces = set(text) <= set(DIGITS + " ")
    if only_spaces and len(text) in WHOLE and text[1::2].strip():
        return Is.WHOLE, text.replace(" ", ".")
    for word in words:  # a Sudoku or a row with a wrong character in it
        if 2 * _cells_in(word) > len(word) and (len(word) in WHOLE or len(word) in BOXES and len(parts) == 1):
            return (Is.WHOLE if len(word) in WHOLE else Is.ROW), word
    if is_long(text):
        return Is.ODD, max(parts, key=_cells_in)
    if any(len(word) > 1 and word.isalpha() for word in words) or _is_count(text, parts):
        return Is.NOTE, ""
    return Is.ODD, text if only_spaces else "".join(cells)


def _is_count(text: str, parts: list[str]) -> bool:
    """Whether a line is a number, or a few small ones as "9 9"."""
    few = len(parts) == 1 or len("".join(parts)) < 4
    return few and all(part.isdigit() for part in parts) and text == " ".join(parts)


def _cells_in(token: str) -> int:
    has_value = any(c in token for c in DIGITS + ".")
    return sum(c in DIGITS + SIGNS for c in token) if has_value else 0


def _even(parts: list[str]) -> str:
    """The cells that stand one by one, box by box or all together; else nothing."""
    widths, cells = {len(part) for part in parts}, "".join(parts)
    size = isqrt(len(cells)) if len(cells) in WHOLE else len(cells)
    return cells if size in BOXES and len(widths) == 1 and widths <= {1, BOXES[size][1], size} else ""


def _boards(parts: list[str]) -> tuple[Is, str]:
    """The question among the boards of a line, which may have its answer as well."""
    length = max(len(part) for part in parts if len(part) in WHOLE and _cells_in(part))
    boards = [part for part in parts if len(part) == length or 2 * _cells_in(part) > length]
    unlike = list(dict.fromkeys(boards))
    questions = [board for board in unlike if any(c in board for c in "0" + SIGNS)] or unlike
    fits = len(questions) == 1 and all(
        len(board) == length and all(c in "0" + SIGNS or c == a for c, a in zip(questions[0], board, strict=True))
        for board in unlike
    )
    return (Is.WHOLE, questions[0]) if fits else (Is.ODD, "".join(boards))
