"""TRM, the Tiny Recursive Model (arXiv 2510.04871): the plain recursion from a fixed start."""

import torch

from config.architectures import TRMArch
from models.core import FixedInit
from models.parts import Parts
from models.recursion import Recursion


def trm_core(arch: TRMArch, length: int, dtype: torch.dtype, parts: Parts) -> Recursion:
    """TRM's core. `length` counts positions L, with those of the puzzle embedding."""
    L_level = parts.stack(arch, arch.L_layers, length)
    H_level = parts.stack(arch, arch.H_layers, length) if arch.H_layers else None
    start = FixedInit(length, arch.hidden_size, dtype)
    return Recursion(L_level, start, arch.H_cycles, arch.L_cycles, H_level)
