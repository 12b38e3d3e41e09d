"""Files that are there in whole, or as they were before."""

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


def write_whole(file: Path, text: str) -> None:
    """Writes a text file."""
    with whole(file) as unfinished:
        unfinished.write_text(text)
