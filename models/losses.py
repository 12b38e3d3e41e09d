"""Token losses: stablemax and softmax cross entropy."""

import torch
import torch.nn.functional as F
from torch import Tensor


def log_stablemax(logits: Tensor) -> Tensor:
    """log(s(x) / sum s(x)) over the last axis in float64, with s(x) = x + 1 for x >= 0, 1 / (1 - x) below.

    From "Grokking at the Edge of Numerical Stability" (arXiv 2501.04697).
    """
    x = logits.double()
    # log s(x), written so that neither branch sees an argument at which its gradient is not finite
    positive = x >= 0
    log_s = torch.where(positive, torch.log1p(torch.where(positive, x, 0)), -torch.log1p(-torch.where(positive, 0, x)))
    return log_s - torch.logsumexp(log_s, dim=-1, keepdim=True)


def stablemax_cross_entropy(logits_BSV: Tensor, labels_BS: Tensor) -> Tensor:
    """Loss per token [B, S] in float64; 0 where the label is below 0."""
    scored = labels_BS >= 0
    index = torch.where(scored, labels_BS, 0).long().unsqueeze(-1)
    return -torch.where(scored, log_stablemax(logits_BSV).gather(-1, index).squeeze(-1), 0.0)


def softmax_cross_entropy(logits_BSV: Tensor, labels_BS: Tensor) -> Tensor:
    """Loss per token [B, S] in float32; 0 where the label is below 0."""
    labels = torch.where(labels_BS >= 0, labels_BS, -100).long()
    return F.cross_entropy(logits_BSV.float().transpose(1, 2), labels, ignore_index=-100, reduction="none")


TOKEN_LOSSES = {
    "stablemax_cross_entropy": stablemax_cross_entropy,
    "softmax_cross_entropy": softmax_cross_entropy,
}
