"""Products of matrices in 16 bits, which a CPU that is slow in them computes in float32.

A CPU with Intel's AMX multiplies bfloat16 in hardware of its own; the others that were tried are 1.4 to 8 times faster
in float32, and one that is not known is taken for such. It is no less exact: sums of 16-bit products, too, are kept in
float32 and rounded once.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

_CPU = Path("/proc/cpuinfo")
FAST_BFLOAT16 = _CPU.is_file() and "amx_bf16" in _CPU.read_text()
"""Whether this machine's CPU is faster in bfloat16 than in float32."""


def product_dtype(x: Tensor) -> torch.dtype:
    """In which dtype products with `x` are computed; their results have that of `x`."""
    slow = x.device.type == "cpu" and not (x.dtype == torch.bfloat16 and FAST_BFLOAT16)
    return torch.float32 if slow and x.dtype in (torch.bfloat16, torch.float16) else x.dtype


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b in the dtype of x, to which W [out, in] and b [out] are rounded: [..., in] -> [..., out]."""
    dtype = product_dtype(x)
    bias = None if bias is None else bias.to(x.dtype).to(dtype)
    return F.linear(x.to(dtype), weight.to(x.dtype).to(dtype), bias).to(x.dtype)
