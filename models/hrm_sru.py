"""HRM-SRU and HRM-SRU++: HRM's two levels as stacks of recurrent units over positions, without inner cycles.

Shapes: B rows, L positions, D features; c_L and c_H are cells [B, layers, D].
"""

import torch
from torch import Tensor, nn

from config.architectures import HRMSRUArch
from models.core import Latents, Start
from models.layers import truncated_normal
from models.parts import Parts
from models.sru import SRUStack


class RandomCells(nn.Module):
    """Starts every row from random cells of the given std, instead of the stored cells of `fixed`."""

    def __init__(self, fixed: "CellInit", std: float) -> None:
        super().__init__()
        self.fixed, self.std = fixed, std

    def forward(self, batch: int) -> Latents:
        """Latents, with shapes as those of `fixed`."""
        output, *cells = self.fixed(batch)
        return (output, *(truncated_normal(*c.shape, std=self.std, device=c.device, dtype=c.dtype) for c in cells))

    def randomized(self, std: float) -> Start:
        """The same starts, with another std."""
        return RandomCells(self.fixed, std)


class CellInit(nn.Module):
    """Starts every row from stored cells, [layers, 1, D] for each level, and an output of zeros."""

    def __init__(self, H_layers: int, L_layers: int, length: int, dim: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.length, self.dtype = length, dtype
        self.register_buffer("H_init", truncated_normal(H_layers, 1, dim, std=1.0))
        self.register_buffer("L_init", truncated_normal(L_layers, 1, dim, std=1.0))

    def forward(self, batch: int) -> Latents:
        """Latents (output [batch, L, D], cells of H [batch, layers, D], cells of L)."""
        cells = tuple(
            self.get_buffer(name).to(self.dtype).transpose(0, 1).expand(batch, -1, -1) for name in ("H_init", "L_init")
        )
        zeros = cells[0].new_zeros(1, 1, 1).expand(batch, self.length, cells[0].shape[-1])
        return (zeros, *cells)

    def randomized(self, std: float) -> Start:
        """Random starts instead of the stored one. They give breadth to a model trained without them."""
        return RandomCells(self, std)


class RecurrentHierarchy(nn.Module):
    """(y, c_L) = L(x, c_L); (y', c_H) = H(y, c_H). The cells carry over; y' is only read out."""

    def __init__(self, H_level: SRUStack, L_level: SRUStack, start: Start) -> None:
        super().__init__()
        self.H_level, self.L_level = H_level, L_level
        self.start: Start = start

    def networks(self) -> list[nn.Module]:
        return []  # a compiler would unroll the recurrence over positions

    def forward(self, latents: Latents, x_BLD: Tensor) -> Latents:
        _, c_H, c_L = latents
        y_BLD, c_L = self.L_level(x_BLD, c_L)
        y_BLD, c_H = self.H_level(y_BLD, c_H)
        return y_BLD, c_H, c_L


def hrm_sru_core(arch: HRMSRUArch, length: int, dtype: torch.dtype, parts: Parts) -> RecurrentHierarchy:
    """The core of HRM-SRU ("hrm_sru") or HRM-SRU++ ("hrm_srupp"). `length` counts positions L."""
    plusplus = arch.name == "hrm_srupp"
    H_level, L_level = (
        SRUStack(layers, arch.hidden_size, plusplus, parts.scan) for layers in (arch.H_layers, arch.L_layers)
    )
    start = CellInit(arch.H_layers, arch.L_layers, length, arch.hidden_size, dtype)
    return RecurrentHierarchy(H_level, L_level, start)
