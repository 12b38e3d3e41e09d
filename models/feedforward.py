"""The feedforward baseline, and the first rungs of the ladder from it to EqR.

It applies a stack `repeats` times, from zero, with gradient through all of it. The baseline applies distinct blocks
once; the weight-tied rung applies two blocks 21 times. With halt_max_steps > 1 (per-iteration supervision) the next
segment goes on from the latent.
"""

import torch
from torch import Tensor, nn

from config.architectures import FeedforwardArch
from models.core import Latents, Start, ZeroInit
from models.layers import Stack
from models.parts import Parts


class Repeated(nn.Module):
    """z = f(z, x), `repeats` times. The one latent starts at zero."""

    def __init__(self, L_level: Stack, length: int, dim: int, dtype: torch.dtype, repeats: int) -> None:
        super().__init__()
        self.L_level, self.repeats = L_level, repeats
        self.start: Start = ZeroInit(length, dim, dtype)

    def networks(self) -> list[nn.Module]:
        return [self.L_level]

    def forward(self, latents: Latents, x_BLD: Tensor) -> Latents:
        (z,) = latents
        for _ in range(self.repeats):
            z = self.L_level(z, x_BLD)
        return (z,)


def feedforward_core(arch: FeedforwardArch, length: int, dtype: torch.dtype, parts: Parts) -> Repeated:
    """The feedforward core. `length` counts positions L, with those of the puzzle embedding."""
    return Repeated(parts.stack(arch, arch.L_layers, length), length, arch.hidden_size, dtype, arch.repeats)
