"""The recursion that TRM and EqR share.

Shapes: B rows, L positions, D features.
"""

import torch
from torch import Tensor, nn

from models.core import Latents, Start


class Recursion(nn.Module):
    """One network f on two latents. A pass is L_cycles times z_L = f(z_L, z_H + x), then z_H = f(z_H, z_L).

    An outer iteration makes H_cycles passes. Only the last carries gradient.
    With `H_level`, a second network updates z_H.
    """

    def __init__(
        self, L_level: nn.Module, start: Start, H_cycles: int, L_cycles: int, H_level: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.L_level, self.H_level = L_level, H_level
        self.start: Start = start
        self.H_cycles, self.L_cycles = H_cycles, L_cycles

    def networks(self) -> list[nn.Module]:
        return [self.L_level] if self.H_level is None else [self.H_level, self.L_level]

    def latent_recursion(self, latents: Latents, x_BLD: Tensor) -> Latents:
        """One pass: z_L settles under the current z_H and the puzzle x, then z_H takes it up."""
        z_H, z_L = latents
        inject_BLD = z_H + x_BLD
        for _ in range(self.L_cycles):
            z_L = self.L_level(z_L, inject_BLD)
        H_level = self.L_level if self.H_level is None else self.H_level
        return H_level(z_H, z_L), z_L

    def forward(self, latents: Latents, x_BLD: Tensor) -> Latents:
        with torch.no_grad():
            for _ in range(self.H_cycles - 1):
                latents = self.latent_recursion(latents, x_BLD)
        return self.latent_recursion(latents, x_BLD)
