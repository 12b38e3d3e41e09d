"""TRM, the Tiny Recursive Model (arXiv 2510.04871): the plain recursion from a fixed start."""

import torch

from config.schema import TRMArch
from models.core import FixedInit
from models.layers import Stack
from models.recursion import Recursion


def trm_core(arch: TRMArch, stack: Stack, length: int, dtype: torch.dtype) -> Recursion:
    """TRM's core."""
    start = FixedInit(length, arch.hidden_size, dtype)
    return Recursion(stack, start, arch.H_cycles, arch.L_cycles)
