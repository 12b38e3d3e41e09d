"""Sudokus in the notations in which people write them down (docs/solve.md lists them)."""

import re
from collections.abc import Callable, Sequence
from math import isqrt
from typing import NamedTuple

from dataset.boards import Sudoku
from dataset.sudoku import BOXES
from dataset.sudoku_line import CELLS, DIGITS, SIGNS, WHOLE, Is, Read, read_line, tokens

Line = tuple[int, str]
"""The number of a line in its file, and its text."""


class Board(NamedTuple):
    """The line that a board starts in, and its cells, one character each."""

    line: int
    cells: str


class Unfinished(ValueError):
    """The text may go on: rows are missing at its end."""


_LARGER = (12, 16, 25)
"""Sizes of other Sudokus."""


class _Row(NamedTuple):
    number: int
    cells: str
    after_gap: bool


def sudokus(lines: Sequence[Line], ends: bool) -> list[Board]:
    """The Sudokus in these lines, in their order.

    Args:
        lines: all of them, also the empty ones.
        ends: whether the text ends with them.

    Raises:
        Unfinished: rows are missing at the end.
        ValueError: a line is neither a row, nor a Sudoku, nor a remark. The sentence names it.
    """
    read = _without_counts([read_line(number, text) for number, text in lines])
    if ends:
        _require_known_size(read)
    found: list[Board] = []
    run: list[Read] = []
    for line in read:
        if line.what in (Is.WHOLE, Is.NOTE):
            found += _grids(run, ends=True)
            run = []
        if line.what is Is.WHOLE:
            found.append(Board(line.number, line.cells))
        elif line.what is not Is.NOTE:
            run.append(line)
    if ends and not found and (wrapped := _wrapped(read)):
        return [wrapped]
    found += _grids(run, ends)
    _require_separate([line.cells for line in read if line.what is Is.WHOLE], len(found), ends)
    return [Board(line, _with_dots(cells)) for line, cells in found]


def _without_counts(read: list[Read]) -> list[Read]:
    """Turns numbers on a line of their own, of another length than the rows around them, into notes."""
    content = [line for line in read if line.what not in (Is.GAP, Is.NOTE)]
    counts = set()
    for index, line in enumerate(content):
        around = content[max(0, index - 1) : index] + content[index + 1 : index + 2]
        number = line.what is Is.ROW and line.text.strip().isdigit() and line.cells[0] != "0"
        if number and around and all(len(other.cells) != len(line.cells) for other in around):
            counts.add(line.number)
    return [line._replace(what=Is.NOTE) if line.number in counts else line for line in read]


def _grids(run: list[Read], ends: bool) -> list[Board]:
    """The boards of lines that hold a row each."""
    content = {line.number for line in run if line.what in (Is.ROW, Is.ODD)}
    odd = next((line for line in run if line.what is Is.ODD), None)
    if not content:
        return []
    if odd is None:
        return _even_grids(run, ends)
    longest = max(len(line.text) for line in run)
    trimmed = not any(line.text.endswith(" ") for line in run)  # then spaces are missing at the ends of lines only
    modes: tuple[Callable[[Read], str], ...] = (_fields, _bars, lambda line: _spaces(line, longest, trimmed))
    for mode in modes:
        rows = _rows(run, mode)
        if content <= {row.number for row in rows}:
            return _stacked(rows, ends)
    size, parts = isqrt(len(odd.cells)), tokens(odd.text)
    if size * size == len(odd.cells) and size > max(BOXES):
        raise ValueError(_unknown(f"line {odd.number} has {size * size} cells", size))
    if len(parts) in _LARGER and all(len(part) == 1 for part in parts):
        raise ValueError(_unknown(f"line {odd.number} has {len(parts)} cells", len(parts)))
    raise ValueError(
        f"line {odd.number} has {len(odd.cells)} characters, but a Sudoku has 16, 36 or 81 on a line "
        "(or 4, 6 or 9 lines of as many), and a maze has an S and a G"
    )


def _rows(run: list[Read], cells_of: Callable[[Read], str]) -> list[_Row]:
    """The rows of lines. An empty line is a gap."""
    rows: list[_Row] = []
    gap = False
    for line in run:
        if cells := cells_of(line):
            rows.append(_Row(line.number, cells, gap))
        gap = not cells and (gap or not line.text.strip())
    return rows


def _even_grids(run: list[Read], ends: bool) -> list[Board]:
    """The boards of rows. A line of one sign is a row if that sign stands for blanks, and a ruler if not."""
    blanks = {c for line in run if line.what is Is.ROW for c in line.cells} & set(SIGNS)
    certain = _rows(run, lambda line: line.cells if line.what is Is.ROW else "")
    possible = _rows(run, lambda line: line.cells if line.what is Is.ROW or line.cells[:1] in blanks else "")
    try:
        found = _stacked(certain, ends)
    except Unfinished:
        raise
    except ValueError:
        return _stacked(possible, ends)
    if len(possible) > len(certain) and len(possible) % len(possible[0].cells) == 0:
        raise ValueError(
            f"lines {run[0].number} to {run[-1].number} have rulers or rows of blanks: write . for a blank"
        )
    return found


def _stacked(rows: list[_Row], ends: bool) -> list[Board]:
    """The boards of rows that follow each other. Gaps lie between boards, between bands, or after every row."""
    boards: list[Board] = []
    if rows[0].cells == DIGITS[1:][: len(rows[0].cells)]:  # these may number the columns
        if len(rows) > 1 and len(rows) % len(rows[0].cells) == 1:
            rows = rows[1:]
        elif not ends:
            raise Unfinished(f"line {rows[0].number} may number columns")
    while rows:
        size = len(rows[0].cells)
        part = rows[:size]
        alike = next((i for i, row in enumerate(part) if len(row.cells) != size), len(part))
        gaps = [index for index, row in enumerate(part) if row.after_gap and index]
        in_band = [index for index in gaps if index % BOXES[size][0]] if len(gaps) < len(part) - 1 else []
        count = min([alike, *in_band])
        if count < size:
            first, last = part[0].number, part[count - 1].number
            lines = f"lines {first} to {last} are {count} rows" if count > 1 else f"line {first} is 1 row"
            sentence = f"{lines} of {size} cells, but a {size}x{size} Sudoku has {size} rows"
            raise ValueError(sentence) if ends or count < len(part) else Unfinished(sentence)
        boards.append(Board(part[0].number, "".join(row.cells for row in part)))
        rows = rows[size:]
    return boards


def _fields(line: Read) -> str:
    """A row of fields between commas, semicolons or tabs, the empty ones blank; or nothing."""
    for delimiter in ",;\t":
        fields = [field.strip(" \"'") for field in line.text.split(delimiter)]
        if len(fields) in BOXES and all(not field or len(field) == 1 and CELLS.match(field) for field in fields):
            return "".join(field or "." for field in fields)
    return ""


def _bars(line: Read) -> str:
    """A row of cells or boxes between bars, with spaces as blanks; or nothing."""
    if "|" not in line.text or not set(line.text) <= set(DIGITS + "| "):
        return ""
    framed = re.search(r"\|.*\|.*\|", line.text)
    parts = (framed[0][1:-1] if framed else line.text).split("|")
    if len(parts) in BOXES and all(len(part.strip()) <= 1 for part in parts):
        return "".join(part.strip() or "." for part in parts)
    for size, (_, wide) in BOXES.items():
        for cut in (slice(None), slice(None, None, 2), slice(1, -1, 2)):  # "1 3", "1   3" and " 1   3 "
            boxes = [part[cut] for part in parts]
            cells = "".join(boxes).replace(" ", ".")
            complete = len(cells) - cells.count(".") == sum(c in DIGITS for c in line.text)
            if len(boxes) * wide == size and all(len(box) == wide for box in boxes) and complete:
                return cells
    return ""


def _spaces(line: Read, size: int, trimmed: bool) -> str:
    """A row of digits and spaces, each space a blank; or nothing."""
    full = len(line.text) == size or trimmed and line.text
    if size not in BOXES or not full or not set(line.text) <= set(DIGITS + " "):
        return ""
    return line.text.ljust(size).replace(" ", ".")


def _wrapped(read: list[Read]) -> Board | None:
    """A list of numbers that is broken into lines somewhere, if it is a board and no line is a row of one."""
    if any(line.what is Is.ROW for line in read):
        return None
    content = [line for line in read if line.what is Is.ODD or line.text.strip().isdigit()]
    cells = [token for line in content for token in tokens(line.text)]
    if len(cells) not in WHOLE or not all(len(token) == 1 and CELLS.match(token) for token in cells):
        return None
    return Board(content[0].number, _with_dots("".join(cells)))


def _require_known_size(read: list[Read]) -> None:
    """Refuses N lines of N cells, if a Sudoku of that size is not known."""
    content = [line for line in read if line.what is not Is.NOTE and any(c in line.text for c in DIGITS + ".")]
    parts = [tokens(line.text) for line in content]
    proper = all(line.what is Is.WHOLE and _may_be_board(line.cells) for line in content)
    for counts in ({len("".join(line)) for line in parts}, {len(line) for line in parts}):
        size = max(counts, default=0)
        if len(counts) == 1 and size > 4 and size not in BOXES and len(content) % size == 0 and not proper:
            raise ValueError(
                _unknown(f"lines {content[0].number} to {content[-1].number} have {size} cells each", size)
            )


def _may_be_board(cells: str) -> bool:
    return set(cells) <= set(SIGNS + DIGITS[: isqrt(len(cells)) + 1])


def _unknown(what: str, size: int) -> str:
    return f"{what}: a {size}x{size} Sudoku is not known, only 4x4, 6x6 and 9x9"


def _require_separate(wholes: list[str], found: int, ends: bool) -> None:
    """Refuses N lines of N cells that may be one larger board as well as N small ones.

    They are small ones if digits stand twice in the larger board, or if each has one solution.
    """
    size = len(wholes[0]) if wholes else 1
    if found != len(wholes) or not wholes or any(len(cells) != size for cells in wholes):
        return
    full = len(wholes) % size == 0
    if not full and (ends or len(wholes) > size) or _repeats(wholes) or all(map(_is_proper, wholes)):
        return
    sentence = f"{len(wholes)} lines of {size} cells may be {len(wholes)} Sudokus or the rows of another"
    raise ValueError(_unknown(sentence, size)) if ends else Unfinished(sentence)


def _repeats(rows: list[str]) -> bool:
    """Whether a digit stands twice in a row or a column of boards with these rows."""
    size = len(rows[0])
    boards = [rows[first : first + size] for first in range(0, len(rows), size)]
    units = [*rows, *("".join(column) for board in boards for column in zip(*board, strict=True))]
    digits = [[c for c in unit if c in "123456789"] for unit in units]
    return any(len(set(unit)) < len(unit) for unit in digits)


def _is_proper(cells: str) -> bool:
    kind = Sudoku(isqrt(len(cells)))
    try:
        return kind.solutions(kind.tokens(_with_dots(cells))) == 1
    except ValueError:
        return False


def _with_dots(cells: str) -> str:
    """The cells with a dot for the blank sign, if they have one sign only."""
    signs = set(cells) & set(SIGNS + "0")
    return cells.replace(signs.pop(), ".") if len(signs) == 1 else cells
