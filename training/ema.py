"""The exponential moving average of the weights, which evaluations use."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """The average of named parameters. After every step, shadow = rate * shadow + (1 - rate) * weight."""

    def __init__(self, parameters: dict[str, nn.Parameter], rate: float) -> None:
        self.parameters, self.rate = parameters, rate
        self.shadow: dict[str, Tensor] = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(list(self.shadow.values()), list(self.parameters.values()), 1.0 - self.rate)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Gives the model the averaged weights within this block."""
        live = [p.detach().clone() for p in self.parameters.values()]
        try:
            self._put(list(self.shadow.values()))
            yield
        finally:
            self._put(live)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(list(self.parameters.values()), values)
