"""Weights as the kernels read them: in the activations' precision, padded with zeros; made once after each update.

Heads of attention whose K features are no multiple of 8 lie `stride(K)` apart, with zeros between: then every row of
one begins at a multiple of 16 bytes, and is read four times faster than one that does not.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.weak import WeakIdKeyDictionary

E4M3 = torch.float8_e4m3fn
_made = WeakIdKeyDictionary()  # parameter -> (its version, {wanted: what was made})


def forget() -> None:
    """Drops all copies."""
    _made.clear()


register_optimizer_step_post_hook(lambda *_: forget())  # fused optimizers change weights and count no version


def stride(K: int) -> int:
    """How many features apart heads of K features lie."""
    return -(-K // 8) * 8


def spread(x: Tensor, axis: int, K: int) -> Tensor:
    """With heads of K features along an axis: the same `stride(K)` apart."""
    heads = x.unflatten(axis, (-1, K))
    between = [0, 0] * (heads.ndim - axis - 2) + [0, stride(K) - K]
    return F.pad(heads, between).flatten(axis, axis + 1)


def gather(x: Tensor, axis: int, K: int) -> Tensor:
    """The heads that `spread` made, without what lies between them."""
    return x.unflatten(axis, (-1, stride(K))).narrow(axis + 1, 0, K).flatten(axis, axis + 1)


def kernel_copy(
    weight: Tensor, dtype: torch.dtype, rows: int = 0, columns: int = 0, heads: tuple[int, int] | None = None
) -> Tensor:
    """A detached copy of `weight` [M, N] in `dtype`, padded to at least [rows, columns].

    With `heads` (axis, K), heads of K features along that axis are spread.

    Kept until the weight changes, so that an outer iteration, which uses it dozens of times, makes it once. Seen are
    changes that PyTorch counts, a new place in memory, and steps of optimizers; not a write through `weight.data`.
    """
    made: Tensor = _kept(weight, _make, dtype, rows, columns, heads)
    return made


def in_float8(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(`weight` in float8 e4m3, its largest number as large as that can be; what to multiply it by; 1: [1] float32).

    Detached, and kept as those of `kernel_copy` are.
    """
    made: tuple[Tensor, Tensor, Tensor] = _kept(weight, _make_float8)
    return made


def _kept(weight: Tensor, make: Callable[..., Any], *how: object) -> Any:
    if weight.is_inference():  # its changes are not counted
        return make(weight, *how)
    version = weight._version, weight.data_ptr(), weight.device
    known = _made.get(weight)
    if known is None or known[0] != version:
        known = _made[weight] = (version, {})
    wanted = make, *how
    if wanted not in known[1]:
        known[1][wanted] = make(weight, *how)
    return known[1][wanted]


def _make(weight: Tensor, dtype: torch.dtype, rows: int, columns: int, heads: tuple[int, int] | None) -> Tensor:
    with torch.inference_mode(False):  # what inference makes, training may use
        made = spread(weight.detach(), *heads) if heads else weight.detach()
        m, n = made.shape
        return F.pad(made, (0, max(0, columns - n), 0, max(0, rows - m))).to(dtype, copy=True)


def _make_float8(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    with torch.inference_mode(False):
        whole = weight.detach().float()
        scale = whole.abs().amax().clamp_min(torch.finfo(torch.float32).tiny).view(1) / torch.finfo(E4M3).max
        return (whole / scale).to(E4M3), scale, torch.ones_like(scale)
