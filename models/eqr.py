"""EqR, the Equilibrium Reasoner (arXiv 2605.21488): TRM's recursion, relaxed, noisy, from random starts."""

import torch
from torch import Tensor, nn

from config.schema import EqRArch
from models.core import Draw, RandomInit
from models.layers import Stack, truncated_normal
from models.recursion import Recursion


def relax(h: Tensor, target: Tensor, lambda_: float, noise_scale: float) -> Tensor:
    """(1 - lambda_) h + lambda_ target + noise_scale * eps, eps ~ N(0, 1) anew for every element.

    The paper writes lambda for 1 - lambda_ (damping) and beta for noise_scale (noise injection).
    """
    relaxed = h + lambda_ * (target - h)
    if noise_scale == 0:
        return relaxed
    return relaxed + noise_scale * torch.randn_like(relaxed)


class Relaxed(nn.Module):
    """F(h, inject) = relax(h, f(h, inject)): `f` made into a damped, noisy step towards its fixed point."""

    def __init__(self, f: nn.Module, lambda_: float, noise_scale: float) -> None:
        super().__init__()
        self.f, self.lambda_, self.noise_scale = f, lambda_, noise_scale

    def forward(self, h_BLD: Tensor, inject_BLD: Tensor) -> Tensor:
        return relax(h_BLD, self.f(h_BLD, inject_BLD), self.lambda_, self.noise_scale)


def eqr_core(
    arch: EqRArch,
    stack: Stack,
    length: int,
    dtype: torch.dtype,
    relaxed: type[Relaxed] = Relaxed,
    draw: Draw = truncated_normal,
) -> Recursion:
    """EqR's core."""
    network = relaxed(stack, arch.lambda_, arch.noise_scale)
    start = RandomInit((arch.H_init_std, arch.L_init_std), length, arch.hidden_size, dtype, draw)
    return Recursion(network, start, arch.H_cycles, arch.L_cycles)
