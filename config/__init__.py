"""Configuration: YAML groups composed by Hydra, validated by the strict models of `schema`.

Every package imports this one first. It says which package is missing, and before PyTorch is imported how waiting
threads behave and how memory is kept.
"""

import ctypes
import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from types import TracebackType

_MISSING = f"error: {sys.executable} has no {{}}: bash scripts/install.sh makes .venv/bin/python with it"


def _while_starting(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Says in a sentence that PyTorch is missing, where a program imports it, and nothing about Ctrl-C meanwhile.

    Solving with onnxruntime does not import PyTorch.
    """
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        sys.stderr.write(_MISSING.format("torch") + "\n")
    elif not isinstance(error, KeyboardInterrupt):
        _hook_before(kind, error, trace)


_hook_before, sys.excepthook = sys.excepthook, _while_starting
_NEEDED = "hydra huggingface_hub numpy omegaconf pydantic pysat safetensors tqdm yaml"
for _name in _NEEDED.split():
    if find_spec(_name) is None:  # another environment is active, perhaps
        sys.exit(_MISSING.format(_name))

# A thread without work sleeps. If it spun, a training beside other programs would take several times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# glibc hands memory of large tensors back to the system, which clears it for the next one: half of an evaluation's
# time on a CPU. Up to 1 GiB stays with the process instead.
with suppress(AttributeError, TypeError):  # only glibc has mallopt, and Windows no library without a name
    _mallopt = ctypes.CDLL(None).mallopt
    _mallopt(-1, 2**30)  # M_TRIM_THRESHOLD: free memory at the heap's end that is kept
    _mallopt(-3, 2**30)  # M_MMAP_THRESHOLD: smaller blocks come from the heap
