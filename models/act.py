"""Adaptive computation time: who halts in training, and the loss that teaches it.

Metrics are sums and counts over rows; whoever reads them divides once, at the end.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from config.schema import Arch
from models.losses import TOKEN_LOSSES
from models.reasoner import Readout, Reasoner, State

Metrics = dict[str, Tensor]
"""Sums over rows: scalars, on the device."""


def halt(state: State, readout: Readout, arch: Arch) -> State:
    """Marks the slots that are done: at `halt_max_steps`, or when q_halt > 0 (HRM: > q_continue).

    With probability `halt_exploration_prob`, drawn anew at every step, a slot goes on unless it has made a number of
    steps drawn from [2, halt_max_steps].
    """
    steps, most = state.steps, arch.halt_max_steps
    halted = steps >= most
    if most > 1 and arch.learned_halting:
        halted = halted | (readout.q_halt > (readout.q_continue if arch.q_continue else 0.0))
        explores = torch.rand(steps.shape, device=steps.device) < arch.halt_exploration_prob
        minimum = torch.randint(2, most + 1, steps.shape, device=steps.device)
        halted = halted & (steps >= torch.where(explores, minimum, 0))
    return state._replace(halted=halted)


def continue_target(model: Reasoner, state: State, arch: Arch) -> Tensor:
    """What q_continue should say [B]: the probability of being right after one more iteration, or later.

    sigmoid(q_halt') on the last step, sigmoid(max(q_halt', q_continue')) before, where ' is one more outer
    iteration without gradient (HRM's Q-learning, without replay or target network).
    """
    with torch.no_grad():
        _, following = model.advance(state)
        best = torch.maximum(following.q_halt, following.q_continue)
        return torch.where(state.steps >= arch.halt_max_steps, following.q_halt, best).sigmoid()


def by_row(readout: Readout, labels_BS: Tensor, loss_type: str, learned_halting: bool) -> dict[str, Tensor]:
    """What is right, and the losses, each [B].

    `accuracy` is the share of the scored tokens that are right, `exact_accuracy` whether all are, `lm_loss` the token
    loss averaged over them; a row without one has share and loss 0 and is exactly right. `q_halt_loss` is the binary
    cross entropy of q_halt against "this answer is exactly right"; `total_loss` adds half of it, where halting is
    learned.
    """
    scored = labels_BS >= 0
    tokens_B = scored.sum(-1)
    right_B = ((readout.logits.argmax(-1) == labels_BS) & scored).sum(-1)
    exact_B = right_B == tokens_B
    lm_loss = TOKEN_LOSSES[loss_type](readout.logits, labels_BS).sum(-1) / tokens_B.clamp(min=1)
    q_halt_loss = F.binary_cross_entropy_with_logits(readout.q_halt, exact_B.float(), reduction="none")
    total = lm_loss + 0.5 * q_halt_loss if learned_halting else lm_loss
    return {
        "accuracy": right_B / tokens_B.clamp(min=1),
        "exact_accuracy": exact_B,
        "q_halt_accuracy": (readout.q_halt >= 0) == exact_B,
        "lm_loss": lm_loss,
        "q_halt_loss": q_halt_loss,
        "total_loss": total,
    }


def act_loss(
    readout: Readout, state: State, arch: Arch, target_continue: Tensor | None = None
) -> tuple[Tensor, Metrics]:
    """(loss summed over rows, metrics).

    The loss of a row is the total_loss of `by_row` and, where given, half the binary cross entropy of q_continue
    against its target. Losses are summed over all rows; accuracy, exact_accuracy, q_halt_accuracy and steps over the
    `count` rows that halted and have a scored token.
    """
    values = by_row(readout, state.labels, arch.loss.loss_type, arch.learned_halting) | {"steps": state.steps}
    if target_continue is not None:
        q_continue = F.binary_cross_entropy_with_logits(readout.q_continue, target_continue, reduction="none")
        values |= {"q_continue_loss": q_continue, "total_loss": values["total_loss"] + 0.5 * q_continue}
    counted_B = state.halted & (state.labels >= 0).any(-1)
    metrics = {"count": counted_B.float().sum()}
    for name, value_B in values.items():
        summed_B = value_B if name.endswith("_loss") else torch.where(counted_B, value_B.float(), 0.0)
        metrics[name] = summed_B.detach().sum().float()
    return values["total_loss"].sum(), metrics
