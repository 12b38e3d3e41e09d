"""Runs an ONNX file by onnxruntime, on all cores of a CPU.

Shapes: R rows, S tokens.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from math import ceil
from pathlib import Path

import numpy as np
import onnxruntime

Arrays = dict[str, np.ndarray]
"""Inputs or outputs of a graph, by name. The first axis of each is R."""
_TOKENS = 2**8
"""So many tokens are a slice: few enough for a core's cache, enough to keep it busy."""


def _threads() -> int:
    """How many threads OpenMP's variable asks for, 0 if it does not."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # of nested threads, the outer ones
    return int(wanted) if wanted.isdecimal() else 0


def open_session(file: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session with so many threads, one for each core if 0.

    Raises:
        ValueError: onnxruntime cannot run this file.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    waiting = os.environ.get("OMP_WAIT_POLICY", "passive")
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(waiting.lower() == "active")))
    options.log_severity_level = 4  # what goes wrong is an exception, too
    slower = ["MatmulTransposeFusion"]  # a product of a transposed tensor takes more time than the two nodes
    try:
        return onnxruntime.InferenceSession(
            file, options, providers=["CPUExecutionProvider"], disabled_optimizers=slower
        )
    except Exception as error:  # its exceptions have no class of their own in common
        reason = str(error).splitlines()[0]
        raise ValueError(f"{file} is not an ONNX file that onnxruntime can run: {reason}") from None


class Graph:
    """A graph that all cores run: each on slices of the rows, with no need to wait, and together on what is left over.

    Args:
        opened: a session with so many threads, one for each core if 0.
    """

    def __init__(self, opened: Callable[[int], onnxruntime.InferenceSession]) -> None:
        threads = _threads()
        self._session, self._cores = cache(opened), threads or os.cpu_count() or 1
        self.each = ThreadPoolExecutor(self._cores).map
        self.session = self._session(threads if self._cores > 1 else 1)
        self._inputs = {node.name for node in self.session.get_inputs()}
        self._outputs = [node.name for node in self.session.get_outputs()]

    def run(self, given: Arrays) -> Arrays:
        """The outputs for R rows. Inputs that the graph does not look at are left out."""
        R, S = given["inputs"].shape
        given = {name: array for name, array in given.items() if name in self._inputs}
        rest = R % self._cores
        outputs = [self.session.run(None, {name: array[:rest] for name, array in given.items()})] if rest else []
        if rest < R:
            slices = min(R - rest, self._cores * ceil((R - rest) * S / (self._cores * _TOKENS)))
            parts = zip(*(np.array_split(array[rest:], slices) for array in given.values()), strict=True)
            run = partial(self._session(1).run, None)
            outputs += self.each(run, (dict(zip(given, part, strict=True)) for part in parts))
        named = zip(self._outputs, zip(*outputs, strict=True), strict=True)
        return {name: np.concatenate(output) for name, output in named}
