"""Configuration: YAML groups composed by Hydra, validated by the strict models of `schema`.

Every package imports this one first. It says how waiting threads behave and how memory is kept, before PyTorch is
imported.
"""

import ctypes
import os
from contextlib import suppress

# A thread without work sleeps. If it spun, a training beside other programs would take several times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# glibc hands memory of large tensors back to the system, which clears it for the next one: half of an evaluation's
# time on a CPU. Up to 1 GiB stays with the process instead.
with suppress(AttributeError):  # only glibc has mallopt
    _mallopt = ctypes.CDLL(None).mallopt
    _mallopt(-1, 2**30)  # M_TRIM_THRESHOLD: free memory at the heap's end that is kept
    _mallopt(-3, 2**30)  # M_MMAP_THRESHOLD: smaller blocks come from the heap
