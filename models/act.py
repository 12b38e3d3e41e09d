"""Adaptive computation time: who halts in training, and the loss that teaches it.

Everything here is a sum or a count over rows; whoever reads it divides once, at the end.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses import TOKEN_LOSSES
from models.reasoner import Readout, State

Metrics = dict[str, Tensor]
"""Sums over rows: scalars, on the device."""


def halt(state: State, readout: Readout, max_steps: int, exploration: float) -> State:
    """Marks the slots that are done: at `max_steps`, or when q_halt > 0.

    With probability `exploration` a slot must first make a number of steps drawn from [2, max_steps].
    """
    steps = state.steps
    halted = steps >= max_steps
    if max_steps > 1:
        halted = halted | (readout.q_halt > 0)
        explores = torch.rand(steps.shape, device=steps.device) < exploration
        minimum = torch.randint(2, max_steps + 1, steps.shape, device=steps.device)
        halted = halted & (steps >= torch.where(explores, minimum, 0))
    return state._replace(halted=halted)


def answers(readout: Readout, labels_BS: Tensor) -> tuple[Tensor, Tensor]:
    """(share of scored tokens that are right [B], whether all of them are [B]).

    A row without a scored token has share 0 and is exactly right.
    """
    scored = labels_BS >= 0
    right = (readout.logits.argmax(-1) == labels_BS) & scored
    tokens_B, right_B = scored.sum(-1), right.sum(-1)
    return right_B / tokens_B.clamp(min=1), right_B == tokens_B


def act_loss(readout: Readout, state: State, loss_type: str) -> tuple[Tensor, Metrics]:
    """(loss summed over rows, metrics).

    The loss of a row is its token loss, averaged over the scored tokens, plus half the binary cross
    entropy of q_halt against "this answer is exactly right". Losses are summed over all rows; accuracy,
    exact_accuracy, q_halt_accuracy and steps over the `count` rows that halted and have a scored token.
    """
    labels = state.labels
    tokens_B = (labels >= 0).sum(-1)
    token_loss_BS = TOKEN_LOSSES[loss_type](readout.logits, labels)
    lm_loss = (token_loss_BS.sum(-1) / tokens_B.clamp(min=1)).sum()
    accuracy_B, exact_B = answers(readout, labels)
    q_halt_loss = F.binary_cross_entropy_with_logits(readout.q_halt, exact_B.float(), reduction="sum")
    total = lm_loss + 0.5 * q_halt_loss

    counted = state.halted & (tokens_B > 0)

    def over_counted(values_B: Tensor) -> Tensor:
        return torch.where(counted, values_B.float(), 0.0).sum()

    metrics = {
        "count": counted.float().sum(),
        "accuracy": over_counted(accuracy_B),
        "exact_accuracy": over_counted(exact_B),
        "q_halt_accuracy": over_counted((readout.q_halt >= 0) == exact_B),
        "steps": over_counted(state.steps),
        "lm_loss": lm_loss.detach().float(),
        "q_halt_loss": q_halt_loss.detach(),
        "total_loss": total.detach().float(),
    }
    return total, metrics
