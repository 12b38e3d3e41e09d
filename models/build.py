"""Builds the reasoner that a configuration describes, and puts it on its device."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from config.architectures import Arch
from dataset.puzzles import PuzzleShape
from models.backend import PLAIN, Backend
from models.core import Core
from models.eqr import eqr_core
from models.feedforward import feedforward_core
from models.hrm import hrm_core
from models.hrm_sru import hrm_sru_core
from models.layers import Embedding, Linear, sinusoids
from models.parts import Parts
from models.puzzle_embedding import PuzzleEmbedding
from models.reasoner import Reasoner
from models.trm import trm_core

CORES: dict[str, Callable[[Any, int, torch.dtype, Parts], Core]] = {
    "eqr": eqr_core,
    "trm": trm_core,
    "hrm": hrm_core,
    "hrm_sru": hrm_sru_core,
    "hrm_srupp": hrm_sru_core,
    "feedforward": feedforward_core,
}
"""By arch.name: makes a core out of (arch, positions L, dtype of the latents, parts)."""


def build(arch: Arch, shape: PuzzleShape, backend: Backend = PLAIN) -> Reasoner:
    """The reasoner that `arch` describes, for puzzles of the given shape, on the CPU.

    Its parameters come from torch's global generator.

    Raises:
        ValueError: the architecture does not fit the puzzles (RoPE-2D's board).
    """
    dtype, parts = getattr(torch, arch.forward_dtype), backend.parts()
    dim, prefix = arch.hidden_size, arch.puzzle_tokens
    length = prefix + shape.seq_len

    positions: Embedding | Tensor | None = None
    if arch.pos_encodings == "learned":
        positions = Embedding(length, dim, dtype)
    elif arch.pos_encodings == "absolute":
        positions = sinusoids(length, dim)
    puzzle_emb = (
        PuzzleEmbedding(shape.num_puzzle_identifiers, arch.puzzle_emb_ndim, prefix, dim, dtype) if prefix else None
    )
    return Reasoner(
        CORES[arch.name](arch, length, dtype, parts),
        Embedding(shape.vocab_size, dim, dtype),
        lm_head=Linear(dim, shape.vocab_size),
        q_head=Linear(dim, 2, bias=True),
        positions=positions,
        puzzle_emb=puzzle_emb,
        graphed=parts.graphed,
    )


def place(model: Reasoner, backend: Backend, device: torch.device) -> None:
    """Moves a model to its device, and compiles it in place if the backend says so.

    Compiles only the networks that an outer iteration applies again and again. One graph of one application keeps the
    first step short; the whole iteration, unrolled, would not.
    """
    model.to(device)
    if backend.compiled:
        for network in model.core.networks():
            network.compile(fullgraph=True, dynamic=False)
