"""How a program ends that computes, perhaps in several processes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from config.command import command
from runtime import distributed


def out_of_memory(error: RuntimeError | MemoryError) -> str | None:
    """Says which memory was too small; None for an error about something else."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return "out of GPU memory"
    # PyTorch's, a Mac's and XLA's
    words = "can't allocate memory|Storage size calculation|MPS backend out of memory|RESOURCE_EXHAUSTED"
    if isinstance(error, MemoryError) or re.search(words, str(error)):
        return "out of memory"
    return None


@contextmanager
def computing(advice: str) -> Iterator[None]:
    """`config.command.command` for a program that computes. It leaves the group of processes at the end.

    Args:
        advice: what a user can do when memory is too small.
    """
    try:
        with command():
            try:
                yield
            except (RuntimeError, MemoryError) as error:
                if (what := out_of_memory(error)) is None:
                    raise
                raise MemoryError(f"{what}; {advice}") from None
            distributed.wait_for_all()
    finally:
        distributed.stop()
