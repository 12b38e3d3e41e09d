"""Reads puzzles from CSV files (a header, then one puzzle per line), and names the fault of a bad one."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

QUESTION = ("question", "questions", "puzzle", "puzzles", "quiz", "quizzes", "unsolved", "sudoku", "maze")
"""What the column of puzzles is called, here and there."""
ANSWER = ("answer", "answers", "solution", "solutions", "solved")
"""What the column of their answers is called."""


def column(header: Sequence[str], names: Sequence[str]) -> int | None:
    """The index of the column with one of these names, spaces and capitals aside; None if there is none."""
    plain = [name.strip().strip("\"'").lower() for name in header]
    return next((plain.index(name) for name in names if name in plain), None)


def csv_rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of each row's last line, and its fields in these columns.

    Raises:
        ValueError: the file is no such CSV. The sentence names file, line and fault.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    with file.open("rb") as raw:
        reader = csv.reader(_lines(file, raw), strict=True)
        try:
            header = next(reader, None)
            if header is None:
                raise ValueError(f"{file}: is empty")
            missing = [name for name in columns if name not in header]
            if missing:
                raise ValueError(f"{file}, line 1: has no column {missing[0]!r}")
            indices = [header.index(name) for name in columns]
            for fields in filter(None, reader):  # without blank lines
                if len(fields) != len(header):
                    origin = f"{file}, line {reader.line_num}"
                    raise ValueError(f"{origin}: has {len(fields)} columns instead of {len(header)}")
                yield reader.line_num, [fields[index] for index in indices]
        except csv.Error as error:
            raise ValueError(f"{file}, line {reader.line_num}: {error}") from error


def _lines(file: Path, raw: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(raw, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}, line {number}: is not UTF-8 text ({error.reason})") from error


def require_text(origin: str, name: str, text: str, length: int, foreign: re.Pattern[str]) -> None:
    """Checks that a field has `length` characters and none that matches `foreign`.

    Raises:
        ValueError: it does not. The sentence begins with `origin` and the field's `name`.
    """
    if len(text) != length:
        raise ValueError(f"{origin}: the {name} has {len(text)} characters instead of {length}")
    if match := foreign.search(text):
        raise ValueError(f"{origin}: the {name} holds the character {match.group()!r}")
