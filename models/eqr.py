"""EqR, the Equilibrium Reasoner (arXiv 2605.21488): TRM's recursion, damped and noisy, from random starts."""

import torch

from config.architectures import EqRArch
from models.core import RandomInit
from models.parts import Parts
from models.recursion import Recursion


def eqr_core(arch: EqRArch, length: int, dtype: torch.dtype, parts: Parts) -> Recursion:
    """EqR's core. `length` counts positions L, with those of the puzzle embedding."""
    network = parts.relaxed(parts.stack(arch, arch.L_layers, length), arch.lambda_, arch.noise_scale)
    start = RandomInit((arch.H_init_std, arch.L_init_std), length, arch.hidden_size, dtype, parts.draw)
    return Recursion(network, start, arch.H_cycles, arch.L_cycles)
