"""Reads YAML files, which others may have written or damaged, and checks what came out of a pickle likewise."""

from pathlib import Path
from typing import Any

import yaml

DEEPEST, MOST = 20, 100_000


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ValueError: the file is missing, is not YAML, or holds something else than a mapping of plain values.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        values = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file} is not readable YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError(f"{file} is nested too deeply") from None
    return plain(values, str(file))


def plain(values: object, origin: str) -> dict[str, Any]:
    """`values`, if it is a mapping of a sane size: mappings by text, lists, texts, numbers, truth values and None.

    One list may stand in many places, so that a small file stands for more values than a machine can hold.

    Raises:
        ValueError: it is something else. The sentence begins with `origin`.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{origin} should hold a mapping, not {type(values).__name__}")
    left: list[tuple[object, int]] = [(values, 0)]
    seen = 0
    while left:
        value, depth = left.pop()
        seen += 1
        if seen > MOST or depth > DEEPEST:
            raise ValueError(f"{origin} holds too many values, or nests them too deeply")
        if isinstance(value, dict):
            left += [(key, DEEPEST) for key in value] + [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            left += [(item, depth + 1) for item in value]
        elif value is not None and type(value) not in (str, int, float, bool):
            raise ValueError(f"{origin} holds a value that is neither text nor number ({type(value).__name__})")
    return values
