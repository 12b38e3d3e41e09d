"""Reads JSON files, which others may have written or damaged: the one place that knows all that can be wrong."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_origin

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def read_json(file: Path, kind: type[T]) -> T:
    """The content of a JSON file, as `parse_json` has it.

    Raises:
        ValueError: the file is missing, is not JSON, or holds something else. The sentence names file and field.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    return parse_json(file.read_bytes(), kind, str(file))


def parse_json(text: bytes | str, kind: type[T], origin: str) -> T:
    """JSON as a value of a type: an object (`dict`), a list, or whatever pydantic knows, such as a model.

    Raises:
        ValueError: the text is not JSON, is nested too deeply, or does not have the type. The sentence begins with
            `origin` and names the field.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode(json.detect_encoding(text))
        value: T = _adapter(kind).validate_json(decoded.removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{origin}: is not JSON ({error.reason})") from None
    except ValidationError as error:
        raise ValueError(f"{origin}: {_fault(error, kind)}") from None
    return value


def typed(value: object, kind: type[T], origin: str) -> T:
    """A value of Python as a type. Raises ValueError if it is something else, as `parse_json` does."""
    try:
        result: T = _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{origin}: {_fault(error, kind)}") from None
    return result


_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def _fault(error: ValidationError, kind: object) -> str:
    """What is wrong, in words, by pydantic's first complaint."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = "".join(f"{part}." for part in first["loc"])[:-1]
    if first["type"] == "json_invalid":
        return f"{where} is not JSON ({first['msg'].removeprefix('Invalid JSON: ')})".lstrip()
    if first["type"] == "extra_forbidden":
        return f"has an unknown key {where}"
    if not where:
        return f"holds no {'list' if (get_origin(kind) or kind) is list else 'object'}"
    return f"{where} {'is missing' if first['type'] == 'missing' else first['msg'].replace('Input should', 'should')}"
