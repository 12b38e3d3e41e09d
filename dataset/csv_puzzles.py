"""Reads puzzles from CSV files (a header, then one puzzle per line), and names the fault of a bad one."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from config import text as text_of

DELIMITERS = ",;\t"
_OTHER_NAMES = {
    "question": ("questions", "puzzle", "puzzles", "quiz", "quizzes", "unsolved", "sudoku", "maze"),
    "answer": ("answers", "solution", "solutions", "solved"),
}
"""What the columns are called elsewhere."""


def column(header: Sequence[str], name: str) -> int | None:
    """The index of a column by its name, or by another that it has elsewhere. Spaces and capitals do not count."""
    plain = [field.strip().strip("\"'").lower() for field in header]
    if name in header:
        return header.index(name)
    return next((plain.index(word) for word in (name.lower(), *_OTHER_NAMES.get(name, ())) if word in plain), None)


def csv_rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of each row's last line, and its fields in these columns, which `column` finds.

    Raises:
        ValueError: the file is no such CSV. The sentence names file, line and fault.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    with file.open("rb") as raw:
        lines = _lines(file, raw)
        first = next(lines, "")
        if not first:
            raise ValueError(f"{file}: is empty")
        delimiter, header = _header(first, columns)
        reader = csv.reader(lines, strict=True, delimiter=delimiter)
        indices = [column(header, name) for name in columns]
        if None in indices:
            name = columns[indices.index(None)]
            others = f" (or {', '.join(_OTHER_NAMES[name])})" if name in _OTHER_NAMES else ""
            there = ", ".join(field if len(field) <= 20 else f"{field[:17]}..." for field in header)
            raise ValueError(f"{file}, line 1: has no column {name!r}{others}, but {there}")
        try:
            for fields in filter(None, reader):  # without blank lines
                if len(fields) != len(header):
                    origin = f"{file}, line {reader.line_num + 1}"
                    raise ValueError(f"{origin}: has {len(fields)} columns instead of {len(header)}")
                yield reader.line_num + 1, [fields[index] for index in indices if index is not None]
        except csv.Error as error:
            raise ValueError(f"{file}, line {reader.line_num + 1}: {error}") from error


def _header(line: str, columns: Sequence[str]) -> tuple[str, list[str]]:
    """The delimiter that gives most of these columns, and the names of all."""
    headers = [(delimiter, next(csv.reader([line], delimiter=delimiter))) for delimiter in DELIMITERS]
    return max(headers, key=lambda found: sum(column(found[1], name) is not None for name in columns))


def _lines(file: Path, raw: BinaryIO) -> Iterator[str]:
    try:
        for number, line in enumerate(text_of.lines(raw), start=1):
            if "\ufffd" in line:
                raise ValueError(f"line {number}: is not UTF-8 text")
            yield f"{line}\n"
    except ValueError as error:
        raise ValueError(f"{file}{', ' if str(error).startswith('line') else ': '}{error}") from None


def require_text(origin: str, name: str, text: str, length: int, foreign: re.Pattern[str], hint: str = "") -> None:
    """Checks that a field has `length` characters and none that matches `foreign`.

    Raises:
        ValueError: it does not. The sentence begins with `origin` and the field's `name`; `hint` may end it.
    """
    if len(text) != length:
        raise ValueError(f"{origin}: the {name} has {len(text)} characters instead of {length}{hint}")
    if match := foreign.search(text):
        raise ValueError(f"{origin}: the {name} holds the character {match.group()!r}")
