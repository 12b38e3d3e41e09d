"""SHA256SUMS: checksums of a data set's files, which `sha256sum -c` understands too. Only builders here write it."""

import hashlib
import re
from pathlib import Path

SUMS = "SHA256SUMS"


def _digest(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_sums(directory: Path) -> None:
    """Writes the checksums of all files in a folder."""
    files = sorted(file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file())
    (directory / SUMS).write_text("".join(f"{_digest(directory / name)}  {name}\n" for name in files))


def require_sums(directory: Path, *names: str) -> None:
    """Compares files of a data set with its SHA256SUMS, if it has any.

    Raises:
        ValueError: a file is another one than the builder wrote.
    """
    sums = directory / SUMS
    if not sums.is_file():
        return
    digests = {name: digest for digest, name in re.findall(r"(?m)^(.*?)  (.*)$", sums.read_text(errors="replace"))}
    for name in names:
        if name in digests and _digest(directory / name) != digests[name]:
            raise ValueError(f"{directory / name}: is damaged, or was changed: it differs from {sums}")
