"""Attention as ONNX nodes: softmax(q k^T / sqrt(K)) v.

The scores of a long row do not fit into a core's cache. Then each head computes apart, some queries at a time. So the
scores are still in the cache when the softmax and the second product read them.

Shapes: B rows, H heads, L positions, K head size.
"""

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

import torch
from onnxscript import opset20

_op: Any = opset20  # its own types say that an operation may return any kind of tensor
_SCORES = 2**18
"""So many scores of a row are a block: 1 MiB."""


def _attention(
    q_BHLK: Any,
    k_BHLK: Any,
    v_BHLK: Any,
    mask: None = None,
    dropout: float = 0.0,
    causal: bool = False,
    scale: float | None = None,
    grouped: bool = False,
) -> Any:
    """The nodes for a call of `models.attention.sdpa`, which uses none of PyTorch's options."""
    assert (mask, dropout, causal, scale, grouped) == (None, 0.0, False, None, False)
    _, H, L, K = q_BHLK.shape
    heads, blocks = (1, 1) if H * L * L <= _SCORES else (H, ceil(L / (_SCORES // L)))
    q_BHLK = _op.Mul(q_BHLK, _op.Constant(value_float=K**-0.5))
    k_BHKL = _op.Transpose(k_BHLK, perm=[0, 1, 3, 2])
    outputs = []
    for q, k, v in zip(*(_parts(t, 1, heads) for t in (q_BHLK, k_BHKL, v_BHLK)), strict=True):
        weights = (_op.Softmax(_op.MatMul(block, k), axis=-1) for block in _parts(q, 2, blocks))
        outputs.append(_op.Concat(*(_op.MatMul(weight, v) for weight in weights), axis=2))
    return _op.Concat(*outputs, axis=1)


def _parts(t: Any, axis: int, count: int) -> Sequence[Any]:
    """A tensor in so many parts along an axis."""
    return _op.Split(t, axis=axis, num_outputs=count) if count > 1 else [t]


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.scaled_dot_product_attention.default: _attention
}
"""What torch.onnx.export writes for PyTorch's attention."""
