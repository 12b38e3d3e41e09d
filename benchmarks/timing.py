"""The time of one step of a repeated computation, as all benchmarks measure it."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

BLOCKS = 5
"""Measured blocks of steps, after one to warm up."""


class Times(NamedTuple):
    """The median time of a step over all blocks but the first, and the time of the first, with all compiling."""

    ms: float
    first_s: float


def synchronize() -> None:
    """Waits for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def block_medians(step: Callable[[], object], steps: int) -> Times:
    """Measures blocks of `steps` steps. Each block ends by waiting for the device."""
    seconds = []
    for _ in range(BLOCKS + 1):
        synchronize()
        started = time.perf_counter()
        for _ in range(steps):
            step()
        synchronize()
        seconds.append(time.perf_counter() - started)
    return Times(1000 * statistics.median(seconds[1:]) / steps, seconds[0])
