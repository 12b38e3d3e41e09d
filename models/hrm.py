"""HRM, the Hierarchical Reasoning Model (arXiv 2506.21734): a slow network H above a fast network L."""

import torch
from torch import Tensor, nn

from config.architectures import HRMArch
from models.core import FixedInit, Latents, Start
from models.layers import Stack
from models.parts import Parts


class Hierarchy(nn.Module):
    """H_cycles times: L_cycles times z_L = L(z_L, z_H + x), then z_H = H(z_H, z_L).

    Gradient flows only through the very last update of each latent (the paper's "one-step gradient").
    """

    def __init__(self, H_level: Stack, L_level: Stack, start: Start, H_cycles: int, L_cycles: int) -> None:
        super().__init__()
        self.H_level, self.L_level = H_level, L_level
        self.start: Start = start
        self.H_cycles, self.L_cycles = H_cycles, L_cycles

    def networks(self) -> list[nn.Module]:
        return [self.H_level, self.L_level]

    def forward(self, latents: Latents, x_BLD: Tensor) -> Latents:
        z_H, z_L = latents
        with torch.no_grad():
            for update in range(1, self.H_cycles * self.L_cycles):
                z_L = self.L_level(z_L, z_H + x_BLD)
                if update % self.L_cycles == 0:
                    z_H = self.H_level(z_H, z_L)
        z_L = self.L_level(z_L, z_H + x_BLD)
        return self.H_level(z_H, z_L), z_L


def hrm_core(arch: HRMArch, length: int, dtype: torch.dtype, parts: Parts) -> Hierarchy:
    """HRM's core. `length` counts positions L, with those of the puzzle embedding."""
    H_level, L_level = (parts.stack(arch, layers, length) for layers in (arch.H_layers, arch.L_layers))
    start = FixedInit(length, arch.hidden_size, dtype)
    return Hierarchy(H_level, L_level, start, arch.H_cycles, arch.L_cycles)
