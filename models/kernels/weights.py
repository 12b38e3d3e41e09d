"""Copies of weights as the kernels read them: in the activations' dtype, padded with zeros, made once per update.

Heads of attention lie `stride(K)` apart, with zeros between them. Every row of a head then begins at a multiple of
16 bytes, and loads four times faster.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.weak import WeakIdKeyDictionary

E4M3 = torch.float8_e4m3fn
_copies = WeakIdKeyDictionary()  # parameter -> (its version, {how a copy was made: the copy})


def forget() -> None:
    """Drops all copies."""
    _copies.clear()


register_optimizer_step_post_hook(lambda *_: forget())  # fused optimizers change weights without a new version


def stride(K: int) -> int:
    """The distance in features between heads of K features."""
    return -(-K // 8) * 8


def spread(x: Tensor, axis: int, K: int) -> Tensor:
    """Moves heads of K features along an axis `stride(K)` apart."""
    heads = x.unflatten(axis, (-1, K))
    between = [0, 0] * (heads.ndim - axis - 2) + [0, stride(K) - K]
    return F.pad(heads, between).flatten(axis, axis + 1)


def gather(x: Tensor, axis: int, K: int) -> Tensor:
    """The heads that `spread` moved apart, without the zeros between them."""
    return x.unflatten(axis, (-1, stride(K))).narrow(axis + 1, 0, K).flatten(axis, axis + 1)


def kernel_copy(
    weight: Tensor, dtype: torch.dtype, rows: int = 0, columns: int = 0, heads: tuple[int, int] | None = None
) -> Tensor:
    """A detached copy of `weight` [M, N] in `dtype`, padded to at least [rows, columns].

    `heads` (axis, K) moves heads of K features along that axis `stride(K)` apart.

    The copy stays until the weight changes, so an outer iteration makes it once and uses it dozens of times. Changes
    that PyTorch counts, a new place in memory and steps of optimizers drop it. A write through `weight.data` does not.
    """
    copy: Tensor = _kept(weight, _make, dtype, rows, columns, heads)
    return copy


def in_float8(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(`weight` in float8 e4m3, scaled to use its whole range; the factor that undoes the scale; a factor of 1).

    Factors are [1] float32. All are detached, and stay as the copies of `kernel_copy` do.
    """
    copy: tuple[Tensor, Tensor, Tensor] = _kept(weight, _make_float8)
    return copy


def _kept(weight: Tensor, make: Callable[..., Any], *how: object) -> Any:
    if weight.is_inference():  # PyTorch does not count its changes
        return make(weight, *how)
    version = weight._version, weight.data_ptr(), weight.device
    entry = _copies.get(weight)
    if entry is None or entry[0] != version:
        entry = _copies[weight] = (version, {})
    copies, key = entry[1], (make, *how)
    if key not in copies:
        copies[key] = make(weight, *how)
    return copies[key]


def _make(weight: Tensor, dtype: torch.dtype, rows: int, columns: int, heads: tuple[int, int] | None) -> Tensor:
    with torch.inference_mode(False):  # training may use what inference makes
        spaced = spread(weight.detach(), *heads) if heads else weight.detach()
        m, n = spaced.shape
        return F.pad(spaced, (0, max(0, columns - n), 0, max(0, rows - m))).to(dtype, copy=True)


def _make_float8(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    with torch.inference_mode(False):
        exact = weight.detach().float()
        scale = exact.abs().amax().clamp_min(torch.finfo(torch.float32).tiny).view(1) / torch.finfo(E4M3).max
        return (exact / scale).to(E4M3), scale, torch.ones_like(scale)
