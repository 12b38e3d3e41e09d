"""The reasoner: embeds a puzzle, recurs on its latents, reads out an answer and a halting logit.

A State is a value: `step` returns a new one and leaves the old one as it was. Halting, losses, depth and breadth are
the business of other modules.

Shapes: B rows (slots), S tokens of a puzzle, L positions (S and the puzzle-embedding tokens), D features, V vocabulary.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from dataset.puzzles import Batch
from models.core import Core, Latents
from models.layers import Embedding, Linear
from models.puzzle_embedding import PuzzleEmbedding


class State(NamedTuple):
    """B slots, each with its puzzle and how far it has come."""

    latents: Latents  # [B, L, D]
    inputs: Tensor  # [B, S] int32
    labels: Tensor  # [B, S] int32
    puzzle_ids: Tensor  # [B] int32
    steps: Tensor  # [B] int32: outer iterations made on this puzzle
    halted: Tensor  # [B] bool: the slot is done and takes the next puzzle


class Readout(NamedTuple):
    """The answer after an outer iteration, and the halting logits."""

    logits: Tensor  # [B, S, V]
    q_halt: Tensor  # [B] float32: above 0 means "my answer is right"
    q_continue: Tensor  # [B] float32: used by HRM only


Advance = Callable[[State], tuple[State, Readout]]
"""Makes one outer iteration of every slot."""


def where_rows(rows_B: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """`yes` [B, ...] in the rows that `rows_B` (bool [B]) marks, `no` [B, ...] in the others."""
    return torch.where(rows_B.view(-1, *[1] * (yes.ndim - 1)), yes, no)


class Reasoner(nn.Module):
    """A core between an embedding and two heads.

    Args:
        core: starts latents, and makes an outer iteration on them.
        tokens: token embedding [V, D].
        lm_head: reads the answer [V] off a latent.
        q_head: reads (q_halt, q_continue) off a latent.
        positions: [L, D] to add to the tokens, an Embedding ("learned") or a Tensor ("absolute"); or None.
        puzzle_emb: puzzle embedding, or None.
        graphed: makes iterations without gradient a CUDA graph (models/kernels/graph.py), or None.
    """

    def __init__(
        self,
        core: Core,
        tokens: Embedding,
        lm_head: Linear,
        q_head: Linear,
        positions: Embedding | Tensor | None = None,
        puzzle_emb: PuzzleEmbedding | None = None,
        graphed: Callable[[Advance, nn.Module], Advance] | None = None,
    ) -> None:
        super().__init__()
        self.core = core
        self.embed_tokens, self.lm_head, self.q_head = tokens, lm_head, q_head
        self.puzzle_emb = puzzle_emb
        self.embed_pos = positions if isinstance(positions, Embedding) else None
        self.register_buffer("sinusoids", positions if isinstance(positions, Tensor) else None, persistent=False)
        assert q_head.bias is not None
        nn.init.zeros_(q_head.weight)
        nn.init.constant_(q_head.bias, -5.0)
        self._graphed = None if graphed is None else graphed(self.iterate, self)

    def embed(self, inputs_BS: Tensor, puzzle_ids_B: Tensor) -> Tensor:
        """x [B, L, D]: puzzle-embedding tokens, then the puzzle's tokens, with positions, times sqrt(D)."""
        x_BLD = self.embed_tokens(inputs_BS)
        if self.puzzle_emb is not None:
            x_BLD = torch.cat((self.puzzle_emb(puzzle_ids_B), x_BLD), dim=1)
        table = self.sinusoids if self.embed_pos is None else self.embed_pos.embedding_weight
        if table is not None:
            x_BLD = 0.707106781 * (x_BLD + table.to(x_BLD.dtype))
        return math.sqrt(x_BLD.shape[-1]) * x_BLD

    def read_out(self, z_BLD: Tensor, tokens: int) -> Readout:
        """The answer, from the last `tokens` positions, and the halting logits, from the first position."""
        q_B2 = self.q_head(z_BLD[:, 0].float())
        return Readout(self.lm_head(z_BLD[:, -tokens:]), q_B2[:, 0], q_B2[:, 1])

    def start(self, batch: Batch) -> State:
        """Fresh rows on `batch`, before their first iteration. They count as halted, so `step` fills them anew."""
        rows = batch.inputs.shape[0]
        steps = torch.zeros(rows, dtype=torch.int32, device=batch.inputs.device)
        return State(self.core.start(rows), *batch, steps=steps, halted=torch.ones_like(steps, dtype=torch.bool))

    def refill(self, state: State, batch: Batch) -> State:
        """Gives slots that halted their row of `batch`, fresh latents and zero steps. The others go on."""
        filled: State = tree_map(partial(where_rows, state.halted), self.start(batch), state)
        return filled._replace(halted=torch.zeros_like(state.halted))

    def advance(self, state: State) -> tuple[State, Readout]:
        """`iterate`, as a CUDA graph if the backend has one."""
        return self.iterate(state) if self._graphed is None else self._graphed(state)

    def iterate(self, state: State) -> tuple[State, Readout]:
        """One outer iteration of every slot. The new latents carry no gradient; the readout does."""
        x_BLD = self.embed(state.inputs, state.puzzle_ids)
        latents = self.core(state.latents, x_BLD)
        readout = self.read_out(latents[0], state.inputs.shape[1])
        return state._replace(latents=tuple(z.detach() for z in latents), steps=state.steps + 1), readout

    def step(self, state: State, batch: Batch) -> tuple[State, Readout]:
        """`refill`, then `advance`: one step of segment-wise online training, before halting."""
        return self.advance(self.refill(state, batch))
