"""Says how far a builder is."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

SECONDS = 10.0
"""Between two lines."""

T = TypeVar("T")


def counted(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The same items. Every `SECONDS` a line on stderr says how many of `total` there have been."""
    said = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - said >= SECONDS:
            print(f"{number:,} of {total:,} {what}", file=sys.stderr, flush=True)
            said = time.monotonic()
        yield item
