"""Simple Recurrent Units over positions (arXiv 1709.02755), and SRU++ (arXiv 2102.12459), which mixes by attention.

Shapes: B rows, L positions (the time of the recurrence), D features, I = D / 4 inner features, N layers. c is the cell
state of a layer, [B, D].
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import sdpa
from models.layers import Linear


class Scan(Protocol):
    """The recurrence over positions, as `sru_scan` has it."""

    def __call__(
        self,
        u_BLD3: Tensor,
        x_BLD: Tensor,
        c_BD: Tensor,
        weight_c: Tensor,
        bias: Tensor,
        c_mask_BD: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]: ...


def sru_scan(
    u_BLD3: Tensor, x_BLD: Tensor, c_BD: Tensor, weight_c: Tensor, bias: Tensor, c_mask_BD: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The recurrence over positions. Returns outputs [B, L, D] and the last cell state [B, D].

        forget = sigmoid(u1 + v_f c + b_f);  reset = sigmoid(u2 + v_r c + b_r)
        c = u0 + (c - u0) forget;  out = x + (c - x) reset

    Both gates see the cell state before the update. `weight_c` is (v_f, v_r) and `bias` (b_f, b_r), each [2 D].
    `c_mask_BD` scales the cell's part of the output (dropout).
    """
    u0, u1, u2 = u_BLD3.unbind(-1)
    (v_f, v_r), (b_f, b_r) = weight_c.chunk(2), bias.chunk(2)
    outputs = []
    # unbind, because an index would make the gradient of every position as large as all positions
    for u0_BD, f_BD, r_BD, x_BD in zip(*(t.unbind(1) for t in (u0, u1 + b_f, u2 + b_r, x_BLD)), strict=True):
        forget = torch.sigmoid(torch.addcmul(f_BD, v_f, c_BD))
        reset = torch.sigmoid(torch.addcmul(r_BD, v_r, c_BD))
        c_BD = torch.lerp(u0_BD, c_BD, forget)
        shown = c_BD if c_mask_BD is None else c_BD * c_mask_BD
        outputs.append(torch.lerp(x_BD, shown, reset))
    return torch.stack(outputs, dim=1), c_BD


class AttentionTransform(nn.Module):
    """u = W3 LayerNorm(alpha attention(q, k, v) + z) of SRU++, with z = q = W1 x and (k, v) = W2 z in I features."""

    def __init__(self, dim: int, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        inner = dim // 4
        self.heads, self.dropout = heads, dropout
        self.linear1, self.linear2, self.linear3 = Linear(dim, inner), Linear(inner, 2 * inner), Linear(inner, 3 * dim)
        self.alpha = nn.Parameter(torch.zeros(1))
        self.layer_norm = nn.LayerNorm(inner)

    def forward(self, x_BLD: Tensor) -> Tensor:
        z_BLI = self.linear1(x_BLD)
        k_BLI, v_BLI = self.linear2(z_BLI).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)) for t in (z_BLI, k_BLI, v_BLI))
        mixed = sdpa(q, k, v, dropout=self.dropout if self.training else 0.0).flatten(-2)
        a_BLI = self.alpha.to(x_BLD.dtype) * mixed + z_BLI
        weight, bias = self.layer_norm.weight.to(a_BLI.dtype), self.layer_norm.bias.to(a_BLI.dtype)
        a_BLI = F.layer_norm(a_BLI, a_BLI.shape[-1:], weight, bias)
        return self.linear3(F.dropout(a_BLI, self.dropout, self.training))


class SRULayer(nn.Module):
    """One layer.

    Args:
        dim: D.
        plusplus: SRU++: attention replaces W, and a LayerNorm comes before the gates, but not before the highway.
        drop_cell: dropout on the cell's part of the output, with one draw for each row and feature.
        scan: runs the recurrence.
    """

    def __init__(self, dim: int, plusplus: bool, drop_cell: float = 0.0, scan: Scan = sru_scan) -> None:
        super().__init__()
        self.drop_cell, self.scan = drop_cell, scan
        self.layer_norm = nn.LayerNorm(dim) if plusplus else None
        self.transform_module = AttentionTransform(dim) if plusplus else Linear(dim, 3 * dim)
        self.register_buffer("weight_c", torch.rand(2 * dim) * 2 - 1)
        self.register_buffer("scale_x", torch.ones(1))
        self.bias = nn.Parameter(torch.cat((torch.zeros(dim), torch.full((dim,), -2.0 if plusplus else 0.0))))

    def forward(self, x_BLD: Tensor, c_BD: Tensor) -> tuple[Tensor, Tensor]:
        B, L, D = x_BLD.shape
        dtype = x_BLD.dtype
        inner = x_BLD
        if self.layer_norm is not None:
            inner = F.layer_norm(x_BLD, (D,), self.layer_norm.weight.to(dtype), self.layer_norm.bias.to(dtype))
        u_BLD3 = self.transform_module(inner).view(B, L, D, 3)
        mask = F.dropout(torch.ones_like(c_BD), self.drop_cell) if self.training and self.drop_cell else None
        scaled = x_BLD * self.get_buffer("scale_x").to(dtype)
        return self.scan(u_BLD3, scaled, c_BD, self.get_buffer("weight_c").to(dtype), self.bias.to(dtype), mask)


class SRUStack(nn.Module):
    """Layers on top of each other: (x [B, L, D], c [B, N, D]) -> (output, new c)."""

    def __init__(self, layers: int, dim: int, plusplus: bool, scan: Scan = sru_scan) -> None:
        super().__init__()
        drops = [0.1 if plusplus and i < layers - 1 else 0.0 for i in range(layers)]
        self.rnn_lst = nn.ModuleList(SRULayer(dim, plusplus, drop, scan) for drop in drops)

    def forward(self, x_BLD: Tensor, c_BND: Tensor) -> tuple[Tensor, Tensor]:
        cells = []
        for layer, c_BD in zip(self.rnn_lst, c_BND.unbind(1), strict=True):
            x_BLD, c_BD = layer(x_BLD, c_BD)
            cells.append(c_BD)
        return x_BLD, torch.stack(cells, dim=1)
