"""Token losses, the metrics of a row, and the loss of a training step.

Shapes: B rows, S tokens, V vocabulary. A label below 0 is not scored.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from config.architectures import Arch
from models.devices import kind
from models.reasoner import Readout, State


def log_stablemax(logits: Tensor) -> Tensor:
    """log(s(x) / sum s(x)) over the last axis, with s(x) = x + 1 for x >= 0, 1 / (1 - x) below.

    From "Grokking at the Edge of Numerical Stability" (arXiv 2501.04697). In float64, or in float32 on devices that
    have no float64.
    """
    x = logits.to(kind(logits.device).widest)
    # log s(x): neither branch sees an argument where its gradient is not finite
    positive = x >= 0
    log_s = torch.where(positive, torch.log1p(torch.where(positive, x, 0)), -torch.log1p(-torch.where(positive, 0, x)))
    return log_s - torch.logsumexp(log_s, dim=-1, keepdim=True)


def stablemax_cross_entropy(logits_BSV: Tensor, labels_BS: Tensor) -> Tensor:
    """Loss per token [B, S] in float64, where the device has it. A token with a label below 0 has 0."""
    scored = labels_BS >= 0
    index = torch.where(scored, labels_BS, 0).long().unsqueeze(-1)
    return -torch.where(scored, log_stablemax(logits_BSV).gather(-1, index).squeeze(-1), 0.0)


def softmax_cross_entropy(logits_BSV: Tensor, labels_BS: Tensor) -> Tensor:
    """Loss per token [B, S] in float32. A token with a label below 0 has 0."""
    labels = torch.where(labels_BS >= 0, labels_BS, -100).long()
    return F.cross_entropy(logits_BSV.float().transpose(1, 2), labels, ignore_index=-100, reduction="none")


TOKEN_LOSSES = {
    "stablemax_cross_entropy": stablemax_cross_entropy,
    "softmax_cross_entropy": softmax_cross_entropy,
}


Metrics = dict[str, Tensor]
"""Scalars on the device, each a sum over rows."""


def row_metrics(readout: Readout, labels_BS: Tensor, loss_type: str, learned_halting: bool) -> dict[str, Tensor]:
    """Accuracies and losses, each [B]: `answer_metrics` with the mean token loss of the scored tokens."""
    tokens_B = (labels_BS >= 0).sum(-1)
    lm_loss = TOKEN_LOSSES[loss_type](readout.logits, labels_BS).sum(-1) / tokens_B.clamp(min=1)
    return answer_metrics(readout.logits.argmax(-1), readout.q_halt, lm_loss, labels_BS, learned_halting)


def answer_metrics(
    predictions_BS: Tensor, q_halt_B: Tensor, lm_loss: Tensor, labels_BS: Tensor, learned_halting: bool
) -> dict[str, Tensor]:
    """Accuracies and losses, each [B].

    - `accuracy`: the share of the scored tokens that are right; 0 in a row without scored tokens.
    - `exact_accuracy`: whether all scored tokens are right; true in a row without them.
    - `q_halt_accuracy`: whether q_halt says the same.
    - `lm_loss`: as given: the mean token loss of the scored tokens.
    - `q_halt_loss`: the binary cross entropy of q_halt against "this answer is exactly right".
    - `total_loss`: lm_loss, plus half of q_halt_loss if halting is learned.
    """
    scored = labels_BS >= 0
    tokens_B = scored.sum(-1)
    right_B = ((predictions_BS == labels_BS) & scored).sum(-1)
    exact_B = right_B == tokens_B
    q_halt_loss = F.binary_cross_entropy_with_logits(q_halt_B, exact_B.float(), reduction="none")
    total = lm_loss + 0.5 * q_halt_loss if learned_halting else lm_loss
    return {
        "accuracy": right_B / tokens_B.clamp(min=1),
        "exact_accuracy": exact_B,
        "q_halt_accuracy": (q_halt_B >= 0) == exact_B,
        "lm_loss": lm_loss,
        "q_halt_loss": q_halt_loss,
        "total_loss": total,
    }


def step_loss(
    readout: Readout, state: State, arch: Arch, target_continue: Tensor | None = None
) -> tuple[Tensor, Metrics]:
    """(The loss of a training step, summed over rows; metrics).

    The loss of a row is its total_loss. A target of q_continue adds half the binary cross entropy of q_continue.
    Metrics sum losses over all rows. They sum accuracy, exact_accuracy, q_halt_accuracy and steps over the `count` rows
    that have halted and have a scored token.
    """
    values = row_metrics(readout, state.labels, arch.loss.loss_type, arch.learned_halting) | {"steps": state.steps}
    if target_continue is not None:
        q_continue = F.binary_cross_entropy_with_logits(readout.q_continue, target_continue, reduction="none")
        values |= {"q_continue_loss": q_continue, "total_loss": values["total_loss"] + 0.5 * q_continue}
    counted_B = state.halted & (state.labels >= 0).any(-1)
    metrics = {"count": counted_B.float().sum()}
    for name, value_B in values.items():
        summed_B = value_B if name.endswith("_loss") else torch.where(counted_B, value_B.float(), 0.0)
        metrics[name] = summed_B.detach().sum().float()
    return values["total_loss"].sum(), metrics
