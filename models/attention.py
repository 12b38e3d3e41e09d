"""Attention, and the only file that knows which backends there are."""

import torch.nn.functional as F
from torch import Tensor


def attention(q_BLHK: Tensor, k_BLHK: Tensor, v_BLHK: Tensor, dropout: float = 0.0) -> Tensor:
    """Bidirectional attention softmax(q k^T / sqrt(K)) v over the positions; [B, L, H, K] in and out.

    PyTorch's scaled_dot_product_attention, without a mask: with one it would leave its fast kernels.
    """
    q_BHLK, k_BHLK, v_BHLK = (t.transpose(1, 2) for t in (q_BLHK, k_BLHK, v_BLHK))
    return F.scaled_dot_product_attention(q_BHLK, k_BHLK, v_BHLK, dropout_p=dropout).transpose(1, 2)
