"""Writes files whole or not at all, opens those of a folder that came from others, makes new folders, locks files."""

import errno
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from config.system import PLAIN_FILE, lock


@contextmanager
def whole(file: Path, writer: str | None = None) -> Iterator[Path]:
    """A place beside `file` to write to. At the end it becomes `file`, or after an error it is removed.

    `writer` tells those apart who write the same file at the same time; by default it is a random number. One that is
    named removes what it left when it was killed.
    """
    unfinished = file.with_name(f".{file.name}.{f'{os.urandom(8).hex()}.' if writer is None else writer}unfinished")
    unfinished.unlink(missing_ok=True)  # a kill left it, or it is a link, which writing would follow
    try:
        yield unfinished
        os.replace(unfinished, file)
    except OSError as error:
        if error.errno and error.filename in (None, str(unfinished)) and error.filename2 is None:
            error.filename = str(file)  # a full disk does not say of which file
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def require_place(file: Path, ending: str, option: str = "") -> None:
    """Checks that a file can be written there, before the work of making it.

    Raises:
        ValueError: its name ends otherwise, its folder does not exist or is read-only, or something else is in its
            place.
    """
    if not (file.suffix.lower() == ending and file.parent.is_dir() and file.is_file() == file.exists()):
        raise ValueError(
            f"{option}{file} should be a file to write, its name ending in {ending}, in a folder that exists"
        )
    if not os.access(file.parent, os.W_OK):
        raise ValueError(f"{option}{file} cannot be written: its folder is read-only")


def new_directory(wanted: Path) -> Path:
    """Makes a folder of that name or, if the name is taken, with -2, -3, ... after it."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    directory, n = wanted, 1
    while True:
        try:
            directory.mkdir()
            return directory
        except FileExistsError:
            n += 1
            directory = wanted.with_name(f"{wanted.name}-{n}")


def write_whole(file: Path, content: str | bytes, writer: str | None = None) -> None:
    """Writes a file, whole or not at all (`whole`)."""
    with whole(file, writer) as unfinished:
        unfinished.write_bytes(content if isinstance(content, bytes) else content.encode())


def open_to_write(file: Path, mode: str) -> IO[str]:
    """Opens a text file of a run's or an evaluation's folder to write ("w", "a", "a+").

    Such a folder may come from somebody else. Its links are not followed, and its pipes and devices not opened.

    Raises:
        ValueError: it is no plain file.
    """

    def opener(path: str, flags: int) -> int:
        number = os.open(path, flags | PLAIN_FILE, 0o666)
        if not stat.S_ISREG(os.fstat(number).st_mode):
            os.close(number)
            raise OSError(errno.ENXIO, "no plain file")
        return number

    try:
        return open(file, mode, opener=opener)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        raise ValueError(f"{file} should be a plain file, but it is a link, a pipe or a device: remove it") from None


def fit_for_json(values: dict[str, float]) -> dict[str, float | None]:
    """The values with None in place of NaN and infinity, which JSON does not have."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def claim(file: IO[str], refusal: str) -> None:
    """Locks a file for as long as it is open. Raises ValueError(refusal) if another process has it locked."""
    try:
        lock(file)
    except BlockingIOError:
        raise ValueError(refusal) from None
