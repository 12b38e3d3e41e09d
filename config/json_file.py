"""Reads JSON files."""

import json
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T", dict[str, Any], list[Any])


def read_json(file: Path, kind: type[T]) -> T:
    """The content of a JSON file: an object (`dict`) or a list.

    Raises:
        ValueError: the file is missing, is not JSON, or holds something else.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: is not JSON ({error})") from None
    if not isinstance(content, kind):
        raise ValueError(f"{file}: holds no {'object' if kind is dict else 'list'}")
    return content
