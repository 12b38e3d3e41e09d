"""Puzzles published as CSV files (a header, one puzzle a line): read them, and name what is wrong with one."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO


def csv_rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """For each row of a CSV the line that it ends in and its fields in these columns; others do not matter.

    Raises ValueError, in one sentence that names file, line and fault, if it is no such CSV.
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
            places = [header.index(name) for name in columns]
            for fields in filter(None, reader):  # blank lines do not matter
                if len(fields) != len(header):
                    where = f"{file}, line {reader.line_num}"
                    raise ValueError(f"{where}: has {len(fields)} columns instead of {len(header)}")
                yield reader.line_num, [fields[place] for place in places]
        except csv.Error as error:
            raise ValueError(f"{file}, line {reader.line_num}: {error}") from error


def _lines(file: Path, raw: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(raw, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}, line {number}: is not UTF-8 text ({error.reason})") from error


def require_text(where: str, name: str, text: str, length: int, foreign: re.Pattern[str]) -> None:
    """Raise ValueError unless a field has `length` characters, none of which matches `foreign`."""
    if len(text) != length:
        raise ValueError(f"{where}: the {name} has {len(text)} characters instead of {length}")
    if wrong := foreign.search(text):
        raise ValueError(f"{where}: the {name} holds the character {wrong.group()!r}")
