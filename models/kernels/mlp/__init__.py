"""The residual SwiGLU with its norm: norm(x + down(silu(gate) * up)) with (gate, up) = gate_up(x)."""

import torch
from torch import Tensor

from models.kernels.limits import WIDEST_KERNEL_ROW
from models.kernels.mlp.narrow import narrow_mlp_norm
from models.kernels.mlp.wide import wide_mlp_norm
from models.kernels.noise import NO_RELAXATION, Relaxation


def mlp_norm(
    x: Tensor,
    gate_up: Tensor,
    down: Tensor,
    over_positions: bool = False,
    relaxation: Relaxation = NO_RELAXATION,
    float8: bool = False,
) -> Tensor:
    """norm(x + SwiGLU(x)) over the features or the positions of x, or a relaxed step towards it.

    Args:
        x: [B, L, D].
        gate_up: weight [2 N, D], of the gates and then of what they scale.
        down: weight [D, N].
        over_positions: SwiGLU and norm run over the L positions. D in the weights is L then.
        relaxation: the step; only over features.
        float8: products in 8 bits in wide rows without gradient. x must be normed.
    """
    leaves = (x, gate_up, down, relaxation.h)
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in leaves)
    if x.shape[1 if over_positions else -1] <= WIDEST_KERNEL_ROW:
        return narrow_mlp_norm(x, gate_up, down, over_positions, save, relaxation)
    if over_positions:
        assert relaxation.h is None
        return wide_mlp_norm(x.transpose(1, 2), gate_up, down, save).transpose(1, 2)
    return wide_mlp_norm(x, gate_up, down, save, relaxation, float8)
