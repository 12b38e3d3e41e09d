"""What a run's folder says about its progress.

- `metrics.jsonl` has a line for every look at the training, and one for every evaluation.
- `final.json` has the last evaluation. Only a run that has ended has it.
"""

import json
import os
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from config.fields import Count
from config.json_file import parse_json, read_json
from runtime.files import fit_for_json, write_whole

METRICS, FINAL = "metrics.jsonl", "final.json"
Line = dict[str, Any]
"""Numbers by name, None for one that is not finite. `step` is an integer."""


class _Numbers(BaseModel):
    """A line of metrics.jsonl, and final.json."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None]
    step: Count

    def line(self) -> Line:
        """The numbers by name."""
        numbers = {name: value for name, value in self if value is not None}
        return dict.fromkeys(name for name, _ in self) | fit_for_json(numbers)


def to_line(step: int, values: dict[str, float]) -> str:
    """A line of metrics.jsonl."""
    return json.dumps({"step": step, **fit_for_json(values)}) + "\n"


def read_metrics(file: Path) -> list[Line]:
    """The lines of a metrics.jsonl, but for a last one that a kill cut short.

    Raises:
        ValueError: a line is damaged.
    """
    return [line for line, _ in _lines(file)]


def drop_after(file: Path, step: int) -> None:
    """Cuts the lines after `step` off a metrics.jsonl, and a line that a kill cut short.

    Raises:
        ValueError: a line is damaged.
    """
    os.truncate(file, sum(size for _, size in takewhile(lambda entry: entry[0]["step"] <= step, _lines(file))))


def _lines(file: Path) -> Iterator[tuple[Line, int]]:
    """(numbers, bytes) of every line that is whole."""
    if not file.is_file():
        raise ValueError(f"{file} should be a plain file")
    with open(file, "rb") as lines:
        for number, text in enumerate(lines, start=1):
            if not text.endswith(b"}\n"):
                return
            yield parse_json(text, _Numbers, f"{file} is damaged: line {number}").line(), len(text)


def write_final(directory: Path, step: int, values: dict[str, float]) -> None:
    """Writes final.json, which says that the run has ended."""
    write_whole(directory / FINAL, json.dumps({"step": step, **fit_for_json(values)}, indent=1) + "\n")


def final_step(directory: Path) -> int | None:
    """The step at which a run ended; None for a run that has not ended. Raises ValueError for a damaged final.json."""
    file = directory / FINAL
    return read_json(file, _Numbers).step if file.is_file() else None
