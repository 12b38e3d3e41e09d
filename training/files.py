"""Files that are there in whole, or as they were before; folders that nobody else has."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """A place beside `file` to write to, which becomes `file` at the end, or is removed where that fails."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        yield unfinished
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def new_directory(wanted: Path) -> Path:
    """Makes a folder of that name or, where there is one, with -2, -3, ... after it."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    directory, n = wanted, 1
    while True:
        try:
            directory.mkdir()
            return directory
        except FileExistsError:
            n += 1
            directory = wanted.with_name(f"{wanted.name}-{n}")


def write_whole(file: Path, text: str) -> None:
    """Writes a text file."""
    with whole(file) as unfinished:
        unfinished.write_text(text)
