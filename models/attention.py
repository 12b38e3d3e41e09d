"""Attention by a library. Only this file knows the libraries; `models/kernels/attention` is a kernel of our own."""

import importlib
import os
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from models.precision import product_dtype


class AttentionFunction(Protocol):
    """Bidirectional attention softmax(q k^T / sqrt(K)) v over the positions L; [B, L, H, K] in and out."""

    def __call__(self, q_BLHK: Tensor, k_BLHK: Tensor, v_BLHK: Tensor) -> Tensor: ...


def sdpa(q_BLHK: Tensor, k_BLHK: Tensor, v_BLHK: Tensor, dropout: float = 0.0) -> Tensor:
    """PyTorch's scaled_dot_product_attention, without a mask, since a mask would rule out its fast kernels."""
    q_BHLK, k_BHLK, v_BHLK = (t.transpose(1, 2).to(product_dtype(t)) for t in (q_BLHK, k_BLHK, v_BLHK))
    out_BHLK = F.scaled_dot_product_attention(q_BHLK, k_BHLK, v_BHLK, dropout_p=dropout)
    return out_BHLK.transpose(1, 2).to(q_BLHK.dtype)


def flash(device: torch.device, dtype: str) -> AttentionFunction:
    """Attention by the package flash_attn_interface (FlashAttention 3), or flash_attn (2). DISABLE_FLASH_ATTN=1: sdpa.

    Raises:
        ValueError: neither package is installed, or neither computes on this device or in this dtype.
    """
    if os.environ.get("DISABLE_FLASH_ATTN") == "1":
        return sdpa
    if device.type != "cuda" or dtype not in ("bfloat16", "float16"):
        raise ValueError(f"attention=flash needs a GPU and bfloat16 or float16, not {device.type} and {dtype}")
    package: Any
    for name in ("flash_attn_interface", "flash_attn"):
        try:
            package = importlib.import_module(name)
            break
        except ImportError:
            continue
    else:
        raise ValueError("attention=flash needs the package flash_attn_interface or flash_attn; auto needs neither")

    def attend(q_BLHK: Tensor, k_BLHK: Tensor, v_BLHK: Tensor) -> Tensor:
        out = package.flash_attn_func(q_BLHK, k_BLHK, v_BLHK)
        out_BLHK: Tensor = out[0] if isinstance(out, tuple) else out  # some versions return the sums too
        return out_BLHK

    return attend
