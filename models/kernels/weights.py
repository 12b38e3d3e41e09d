"""Weights as the kernels read them: in the activations' precision, padded with zeros; made once after each update."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.weak import WeakIdKeyDictionary

_made = WeakIdKeyDictionary()  # parameter -> (its version, {wanted: tensor})


def forget() -> None:
    """Drops all copies."""
    _made.clear()


register_optimizer_step_post_hook(lambda *_: forget())  # fused optimizers change weights and count no version


def at(weight: Tensor, dtype: torch.dtype, rows: int = 0, columns: int = 0) -> Tensor:
    """A detached copy of `weight` [M, N] in `dtype`, padded to at least [rows, columns].

    Kept until the weight changes, so that an outer iteration, which uses it dozens of times, makes it once. Seen are
    changes that PyTorch counts, a new place in memory, and steps of optimizers; not a write through `weight.data`.
    """
    wanted = dtype, rows, columns
    if weight.is_inference():  # its changes are not counted
        return _make(weight, *wanted)
    version = weight._version, weight.data_ptr(), weight.device
    known = _made.get(weight)
    if known is None or known[0] != version:
        known = _made[weight] = (version, {})
    if wanted not in known[1]:
        known[1][wanted] = _make(weight, *wanted)
    made: Tensor = known[1][wanted]
    return made


def _make(weight: Tensor, dtype: torch.dtype, rows: int, columns: int) -> Tensor:
    m, n = weight.shape
    with torch.inference_mode(False):  # what inference makes, training may use
        return F.pad(weight.detach(), (0, max(0, columns - n), 0, max(0, rows - m))).to(dtype, copy=True)
