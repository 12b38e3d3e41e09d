"""Text from the bytes of files as people have them: UTF-8, UTF-16 or UTF-32, plain or in gzip."""

import codecs
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

LIMIT = 2**27
"""Bytes of an unpacked gzip file, at most."""
_GZIP = b"\x1f\x8b"
_POINTER = b"version https://git-lfs.github.com/spec/"
_FOREIGN = {
    _POINTER: "is a Git LFS pointer, not the file itself: `git lfs pull` fetches it",
    b"\x89PNG": "is a PNG picture, not text",
    b"\xff\xd8\xff": "is a JPEG picture, not text",
    b"GIF8": "is a GIF picture, not text",
    b"%PDF": "is a PDF document, not text",
    b"PK\x03\x04": "is a zip archive, not text",
    b"BZh": "is a bzip2 archive, not text",
    b"\xfd7zXZ": "is an xz archive, not text",
    b"\x28\xb5\x2f\xfd": "is a zstd archive, not text",
    b"\x93NUMPY": "is a NumPy array, not text",
}
_MARKS = {  # the longer ones first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def foreign(content: bytes) -> str | None:
    """What a file is that cannot be text, by its first bytes; None if it may be text. As in "FILE: is a PNG picture".

    Also tells a Git LFS pointer, which is text, but stands for another file.
    """
    return next((words for begin, words in _FOREIGN.items() if content.startswith(begin)), None)


def refuse_pointer(file: Path) -> None:
    """Raises ValueError if a Git LFS pointer stands in for a file of data."""
    with open(file, "rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise ValueError(f"{file} {_FOREIGN[_POINTER]}")


def decode(content: bytes) -> str:
    """The text of a file. Bytes that are no UTF-8 become U+FFFD.

    Raises:
        ValueError: it is no text. The sentence goes on after the file's name.
    """
    if content.startswith(_GZIP):
        content = _unpacked(content)
    if fault := foreign(content):
        raise ValueError(fault)
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    if encoding is None and b"\0" in content:  # without a mark, ASCII in UTF-16 has a zero in every second byte
        encoding = next((name for name, odd in (("utf-16-le", 1), ("utf-16-be", 0)) if not any(content[odd::2])), None)
        if encoding is None:
            raise ValueError("is no text, but binary data")
    return content.decode(encoding or "utf-8-sig", errors="replace")


def _unpacked(content: bytes) -> bytes:
    unpacking = zlib.decompressobj(wbits=31)
    try:
        text = unpacking.decompress(content, LIMIT)
        while unpacking.unused_data.startswith(_GZIP) and len(text) < LIMIT:  # files that `cat` joined
            content, unpacking = unpacking.unused_data, zlib.decompressobj(wbits=31)
            text += unpacking.decompress(content, LIMIT - len(text))
    except zlib.error as error:
        raise ValueError(f"is a damaged gzip file ({error})") from None
    if len(text) >= LIMIT:
        raise ValueError(f"unpacks to {LIMIT} bytes or more: unpack it first")
    if not unpacking.eof:
        raise ValueError("is a gzip file that is cut off")
    return text


def lines(stream: BinaryIO) -> Iterator[str]:
    """The lines of a stream without their ends, each as soon as it is there. Raises ValueError as `decode`."""
    first = stream.readline()
    begin = first[:4]
    if begin.startswith(_GZIP) or foreign(first) or b"\0" in first or any(begin.startswith(mark) for mark in _MARKS):
        yield from split(decode(first + stream.read()))
        return
    for number, line in enumerate(filter(None, chain([first], iter(stream.readline, b"")))):
        yield from split(line.rstrip(b"\r\n").decode("utf-8" if number else "utf-8-sig", errors="replace"))


def split(text: str) -> list[str]:
    """The lines of a text, with the ends of any system."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
