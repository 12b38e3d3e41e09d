"""The recursion that TRM and EqR share, and the two ways in which a row starts."""

from typing import Protocol

import torch
from torch import Tensor, nn

from models.layers import truncated_normal

Latents = tuple[Tensor, ...]
"""The latents of a batch, each [B, L, D] (HRM-SRU: after the first, cells [B, layers, D]). The first is read out."""


class Draw(Protocol):
    """Draws truncated normal numbers (layers.truncated_normal)."""

    def __call__(self, *shape: int, std: float, device: torch.device, dtype: torch.dtype) -> Tensor: ...


class Start(Protocol):
    """How rows start."""

    def __call__(self, batch: int) -> Latents:
        """Fresh latents for `batch` rows."""
        ...

    def randomized(self, std: float) -> "Start":
        """Random starts, of that std where these are fixed: what breadth needs. ValueError if there can be none."""
        ...


class Core(Protocol):
    """What a model brings: how a row starts, and one outer iteration."""

    start: Start

    def networks(self) -> list[nn.Module]:
        """The modules that an outer iteration calls many times: compile these once each."""
        ...

    def __call__(self, latents: Latents, x_BLD: Tensor) -> Latents:
        """One outer iteration; each core says how far gradient flows."""
        ...


class RandomInit(nn.Module):
    """Every row starts from truncated normal latents of its own ("randomized initialization").

    `stds` holds one standard deviation a latent.
    """

    def __init__(
        self, stds: tuple[float, ...], length: int, dim: int, dtype: torch.dtype, draw: Draw = truncated_normal
    ) -> None:
        super().__init__()
        self.stds, self.length, self.dim, self.draw = stds, length, dim, draw
        self.register_buffer("like", torch.empty(0, dtype=dtype), persistent=False)

    def forward(self, batch: int) -> Latents:
        """Latents (z_H, z_L), each [batch, L, D]."""
        like = self.get_buffer("like")
        shape = (batch, self.length, self.dim)
        return tuple(self.draw(*shape, std=std, device=like.device, dtype=like.dtype) for std in self.stds)

    def randomized(self, std: float) -> Start:
        """Itself: its starts are random, and of a std of their own."""
        return self


class FixedInit(nn.Module):
    """Every row starts from the same two stored vectors (TRM, HRM): not trained, but saved."""

    def __init__(self, length: int, dim: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.length, self.dtype = length, dtype
        self.register_buffer("H_init", truncated_normal(dim, std=1.0))
        self.register_buffer("L_init", truncated_normal(dim, std=1.0))

    def forward(self, batch: int) -> Latents:
        """Latents (z_H, z_L), each [batch, L, D]."""
        vectors = self.get_buffer("H_init"), self.get_buffer("L_init")
        return tuple(v.to(self.dtype).expand(batch, self.length, -1) for v in vectors)

    def randomized(self, std: float) -> Start:
        """Random starts in place of the stored ones, to give a model trained without them breadth."""
        vector = self.get_buffer("H_init")
        return RandomInit((std, std), self.length, len(vector), self.dtype).to(vector.device)


class Recursion(nn.Module):
    """One network f on two latents: L_cycles times z_L = f(z_L, z_H + x), then z_H = f(z_H, z_L).

    That is one pass; an outer iteration makes H_cycles passes, and only the last carries gradient.
    """

    def __init__(self, L_level: nn.Module, start: Start, H_cycles: int, L_cycles: int) -> None:
        super().__init__()
        self.L_level = L_level
        self.start: Start = start
        self.H_cycles, self.L_cycles = H_cycles, L_cycles

    def networks(self) -> list[nn.Module]:
        return [self.L_level]

    def latent_recursion(self, latents: Latents, x_BLD: Tensor) -> Latents:
        """One pass: z_L settles under the current z_H and the puzzle x, then z_H takes it up."""
        z_H, z_L = latents
        inject_BLD = z_H + x_BLD
        for _ in range(self.L_cycles):
            z_L = self.L_level(z_L, inject_BLD)
        return self.L_level(z_H, z_L), z_L

    def forward(self, latents: Latents, x_BLD: Tensor) -> Latents:
        with torch.no_grad():
            for _ in range(self.H_cycles - 1):
                latents = self.latent_recursion(latents, x_BLD)
        return self.latent_recursion(latents, x_BLD)
