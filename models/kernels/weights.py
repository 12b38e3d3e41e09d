"""Weights as the kernels read them: in the activations' precision, padded with zeros; made once after each update."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

_made = WeakIdKeyDictionary()  # parameter -> (its version, {wanted: tensor})


def at(weight: Tensor, dtype: torch.dtype, rows: int = 0, columns: int = 0) -> Tensor:
    """A detached copy of `weight` [M, N] in `dtype`, padded to at least [rows, columns].

    Kept until the weight changes, so that an outer iteration, which uses it dozens of times, makes it once.
    """
    version = weight._version, weight.data_ptr(), weight.device
    known = _made.get(weight)
    if known is None or known[0] != version:
        known = _made[weight] = (version, {})
    wanted = dtype, rows, columns
    if wanted not in known[1]:
        m, n = weight.shape
        padded = F.pad(weight.detach(), (0, max(0, columns - n), 0, max(0, rows - m)))
        known[1][wanted] = padded.to(dtype, copy=True)
    made: Tensor = known[1][wanted]
    return made
