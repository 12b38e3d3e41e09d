"""Puzzle embeddings: one learned row for each puzzle identifier, which stands before the puzzle's tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PuzzleEmbedding(nn.Module):
    """A table [N, E] of zeros. A row becomes P tokens of size D; zeros fill the P*D - E places that are left.

    Sign-SGD (`training.optim.SignSGD`) trains the rows that a batch used. The main optimizer never does.
    """

    def __init__(self, identifiers: int, dim: int, tokens: int, hidden_size: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.shape = (tokens, hidden_size)
        self.padding = tokens * hidden_size - dim
        self.dtype = dtype
        self.weights = nn.Parameter(torch.zeros(identifiers, dim))

    def forward(self, ids_B: Tensor) -> Tensor:
        rows_BE = F.embedding(ids_B, self.weights).to(self.dtype)
        return F.pad(rows_BE, (0, self.padding)).view(-1, *self.shape)
