"""What a model brings, its core: how a row starts, and what one outer iteration does to its latents."""

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


class ZeroInit(nn.Module):
    """The one latent starts at zero."""

    def __init__(self, length: int, dim: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(1, length, dim, dtype=dtype), persistent=False)

    def forward(self, batch: int) -> Latents:
        """Latents (z,), [batch, L, D]."""
        return (self.get_buffer("zeros").expand(batch, -1, -1),)

    def randomized(self, std: float) -> Start:
        """Raises ValueError: there is nothing to vary."""
        raise ValueError("a feedforward model starts from zero, so different_init cannot be above 1")
