"""AdamATan2, sign-SGD for puzzle embeddings, and the learning-rate schedule."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from config.schema import PretrainConfig
from runtime.distributed import World


class AdamATan2(Optimizer):
    """Adam with atan2 instead of the division. It has no epsilon, and the gradients' scale does not matter.

        p *= 1 - lr * weight_decay
        m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
        p -= lr / (1 - b1^t) * atan2(m, sqrt(v) / sqrt(1 - b2^t))

    From "Scaling Exponents Across Parameterizations and Optimizers" (arXiv 2407.05872), without its factors.
    PyTorch's foreach kernels update all parameters that have a gradient together.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                if not self.state[p]:
                    self.state[p] = {
                        "step": torch.tensor(0.0),
                        "exp_avg": torch.zeros_like(p),
                        "exp_avg_sq": torch.zeros_like(p),
                    }
            grads = [p.grad for p in params]
            states = [self.state[p] for p in params]
            means = [s["exp_avg"] for s in states]
            squares = [s["exp_avg_sq"] for s in states]
            torch._foreach_add_([s["step"] for s in states], 1.0)
            t = float(states[0]["step"])
            lr, (beta1, beta2) = group["lr"], group["betas"]
            torch._foreach_mul_(params, 1.0 - lr * group["weight_decay"])
            torch._foreach_lerp_(means, grads, 1.0 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, grads, grads, 1.0 - beta2)
            scales = torch._foreach_sqrt(squares)
            torch._foreach_div_(scales, math.sqrt(1.0 - beta2**t))
            for mean, scale in zip(means, scales, strict=True):
                torch.atan2(mean, scale, out=scale)
            torch._foreach_add_(params, scales, alpha=-lr / (1.0 - beta1**t))


class SignSGD:
    """Sign-SGD for puzzle embeddings. It updates only the rows in use: w *= 1 - lr*wd; w -= lr * sign(g).

    Gradients of equal identifiers add up over the batch (by autograd) and over all processes.
    """

    def __init__(self, weights: nn.Parameter, weight_decay: float, world: World) -> None:
        self.weights, self.weight_decay, self.world = weights, weight_decay, world

    @torch.no_grad()
    def step(self, puzzle_ids_B: Tensor, lr: float) -> None:
        """Updates the rows of the puzzles in the slots of all processes."""
        assert self.weights.grad is not None
        rows = self.world.gather_rows(puzzle_ids_B.long()).unique()
        gradient = self.weights.grad[rows]
        self.world.sum_([gradient])
        self.weights[rows] = self.weights[rows] * (1.0 - lr * self.weight_decay) - lr * gradient.sign()
        self.weights.grad[rows] = 0.0


def learning_rate(step: int, total: int, base: float, warmup: int, min_ratio: float, decay: int | None = None) -> float:
    """The rate of update `step`, counted from 1: a linear warmup, a constant, a cosine to min_ratio * base at `total`.

    The cosine takes the last `decay` steps. With None it takes all steps after the warmup.
    """
    if step < warmup:
        return base * step / warmup
    start = warmup if decay is None else max(warmup, total - decay)
    progress = min(1.0, max(0, step - start) / max(1, total - start))
    return base * (min_ratio + (1.0 - min_ratio) * 0.5 * (1.0 + math.cos(math.pi * progress)))


def _adam_atan2(parameters: Iterable[nn.Parameter], config: PretrainConfig) -> Optimizer:
    return AdamATan2(parameters, config.lr, (config.beta1, config.beta2), config.weight_decay)


def _adam_atan2_package(parameters: Iterable[nn.Parameter], config: PretrainConfig) -> Optimizer:
    """The compiled optimizer of the package adam-atan2. Raises ValueError if the package does not load."""
    try:
        from adam_atan2 import AdamATan2 as Compiled
    except ImportError as error:
        raise ValueError(
            f"optimizer=adam_atan2_package needs the package adam-atan2 ({error}); optimizer=adam_atan2 needs nothing"
        ) from None
    optimizer: Optimizer = Compiled(
        parameters, lr=config.lr, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay
    )
    return optimizer


OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter], PretrainConfig], Optimizer]] = {
    "adam_atan2": _adam_atan2,
    "adam_atan2_package": _adam_atan2_package,
}
"""`optimizer` in a configuration -> what makes it for the parameters. `PretrainConfig` has the same names."""


def kept_of_a_parameter(config: PretrainConfig, device: torch.device) -> dict[str, Tensor]:
    """What the optimizer keeps from step to step of a parameter of one number."""
    parameter = nn.Parameter(torch.zeros(1, device=device))
    parameter.grad = torch.zeros(1, device=device)
    optimizer = OPTIMIZERS[config.optimizer]([parameter], config)
    optimizer.step()
    return dict(optimizer.state[parameter])
