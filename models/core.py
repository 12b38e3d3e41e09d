"""What every model brings: a core, with its start and its outer iteration. The starts that models share.

Shapes: B rows, L positions, D features.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from models.layers import truncated_normal

Latents = tuple[Tensor, ...]
"""The latents of a batch, each [B, L, D]. HRM-SRU has cells [B, layers, D] after the first. The first is read out."""


class Draw(Protocol):
    """Draws truncated normal numbers, as `layers.truncated_normal` does."""

    def __call__(self, *shape: int, std: float, device: torch.device, dtype: torch.dtype) -> Tensor: ...


class Start(Protocol):
    """How trajectories start."""

    def __call__(self, batch: int) -> Latents:
        """Fresh latents for `batch` rows."""
        ...

    def randomized(self, std: float) -> "Start":
        """Random starts, which breadth needs. Fixed starts take the given std.

        Raises:
            ValueError: this model cannot have random starts.
        """
        ...


class Core(Protocol):
    """The part that sets a model apart: how latents start, and one outer iteration on them."""

    start: Start

    def networks(self) -> list[nn.Module]:
        """The modules that an outer iteration calls many times. Each is worth compiling."""
        ...

    def __call__(self, latents: Latents, x_BLD: Tensor) -> Latents:
        """The latents after one outer iteration on the embedded puzzle x. Each core says how far gradient flows."""
        ...


class RandomInit(nn.Module):
    """Starts every row from truncated normal latents of its own (the paper's "randomized initialization").

    `stds` holds one standard deviation for each latent.
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
        """Itself, since its starts are random and have their own stds."""
        return self


class FixedInit(nn.Module):
    """Starts every row from the same two stored vectors (TRM, HRM). Checkpoints hold them; nothing trains them."""

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
        """Random starts instead of the stored one. They give breadth to a model trained without them."""
        vector = self.get_buffer("H_init")
        return RandomInit((std, std), self.length, len(vector), self.dtype).to(vector.device)


class ZeroInit(nn.Module):
    """Starts the one latent at zero."""

    def __init__(self, length: int, dim: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(1, length, dim, dtype=dtype), persistent=False)

    def forward(self, batch: int) -> Latents:
        """Latents (z,), [batch, L, D]."""
        return (self.get_buffer("zeros").expand(batch, -1, -1),)

    def randomized(self, std: float) -> Start:
        """Raises ValueError, since every start is the same zero."""
        raise ValueError("a feedforward model starts from zero, so different_init cannot be above 1")
