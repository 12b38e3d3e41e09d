"""Products of 16-bit matrices. Most CPUs are slow at them and compute them in float32 here.

Intel's AMX multiplies bfloat16 in hardware. All other CPUs that we tried are 1.4 to 8 times faster in float32, and an
unknown CPU counts as one of these. Float32 is no less exact: 16-bit products also add up in float32 and round once.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

_CPU = Path("/proc/cpuinfo")
FAST_BFLOAT16 = _CPU.is_file() and "amx_bf16" in _CPU.read_text()
"""Whether this machine's CPU is faster in bfloat16 than in float32."""


def product_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which to compute products with `x`. Their results have the dtype of `x`."""
    slow = x.device.type == "cpu" and not (x.dtype == torch.bfloat16 and FAST_BFLOAT16)
    return torch.float32 if slow and x.dtype in (torch.bfloat16, torch.float16) else x.dtype


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b: [..., in] -> [..., out]. W [out, in] and b [out] are rounded to the dtype of x first."""
    dtype = product_dtype(x)
    bias = None if bias is None else bias.to(x.dtype).to(dtype)
    return F.linear(x.to(dtype), weight.to(x.dtype).to(dtype), bias).to(x.dtype)
