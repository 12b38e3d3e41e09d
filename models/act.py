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

    With probability `halt_exploration_prob` a slot must first make a number of steps drawn from
    [2, halt_max_steps].
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


def answers(readout: Readout, labels_BS: Tensor) -> tuple[Tensor, Tensor]:
    """(share of scored tokens that are right [B], whether all of them are [B]).

    A row without a scored token has share 0 and is exactly right.
    """
    scored = labels_BS >= 0
    right = (readout.logits.argmax(-1) == labels_BS) & scored
    tokens_B, right_B = scored.sum(-1), right.sum(-1)
    return right_B / tokens_B.clamp(min=1), right_B == tokens_B


def act_loss(
    readout: Readout, state: State, arch: Arch, target_continue: Tensor | None = None
) -> tuple[Tensor, Metrics]:
    """(loss summed over rows, metrics).

    The loss of a row is its token loss, averaged over the scored tokens, plus half the binary cross
    entropy of q_halt against "this answer is exactly right" and, where given, half that of q_continue
    against its target; without learned halting, the token loss alone. Losses are summed over all rows;
    accuracy, exact_accuracy, q_halt_accuracy and steps over the `count` rows that halted and have a scored
    token.
    """
    labels = state.labels
    tokens_B = (labels >= 0).sum(-1)
    token_loss_BS = TOKEN_LOSSES[arch.loss.loss_type](readout.logits, labels)
    lm_loss = (token_loss_BS.sum(-1) / tokens_B.clamp(min=1)).sum()
    accuracy_B, exact_B = answers(readout, labels)
    q_halt_loss = F.binary_cross_entropy_with_logits(readout.q_halt, exact_B.float(), reduction="sum")
    total = lm_loss + 0.5 * q_halt_loss if arch.learned_halting else lm_loss

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
    if target_continue is not None:
        q_continue_loss = F.binary_cross_entropy_with_logits(readout.q_continue, target_continue, reduction="sum")
        total = total + 0.5 * q_continue_loss
        metrics |= {"q_continue_loss": q_continue_loss.detach(), "total_loss": total.detach().float()}
    return total, metrics
