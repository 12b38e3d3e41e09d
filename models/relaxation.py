"""EqR's step (arXiv 2605.21488): damped towards the network's output, with injected noise."""

import torch
from torch import Tensor, nn


def relax(h: Tensor, target: Tensor, lambda_: float, noise_scale: float) -> Tensor:
    """(1 - lambda_) h + lambda_ target + noise_scale * eps, with a fresh eps ~ N(0, 1) for every element.

    The paper writes lambda for 1 - lambda_ (damping) and beta for noise_scale (noise injection).
    """
    relaxed = h + lambda_ * (target - h)
    if noise_scale == 0:
        return relaxed
    return relaxed + noise_scale * torch.randn_like(relaxed)


class Relaxed(nn.Module):
    """F(h, inject) = relax(h, f(h, inject)): a damped, noisy step towards the fixed point of `f`."""

    def __init__(self, f: nn.Module, lambda_: float, noise_scale: float) -> None:
        super().__init__()
        self.f, self.lambda_, self.noise_scale = f, lambda_, noise_scale

    def forward(self, h_BLD: Tensor, inject_BLD: Tensor) -> Tensor:
        return relax(h_BLD, self.f(h_BLD, inject_BLD), self.lambda_, self.noise_scale)
