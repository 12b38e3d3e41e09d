"""Builds the reasoner that a configuration describes, and puts it on its device."""

import importlib
from types import ModuleType

import torch
from torch import Tensor, nn

from config.schema import Arch, BlockArch, EqRArch, FeedforwardArch, HRMArch, HRMSRUArch, TRMArch
from dataset.puzzles import PuzzleShape
from models.attention import sdpa
from models.backend import PLAIN, Backend
from models.core import Core
from models.eqr import eqr_core
from models.feedforward import Repeated
from models.hrm import hrm_core
from models.hrm_sru import hrm_sru_core
from models.layers import (
    Block,
    Embedding,
    Linear,
    MixerBlock,
    Rotary,
    Stack,
    rope_1d,
    rope_2d,
    sinusoids,
)
from models.puzzle_embedding import PuzzleEmbedding
from models.reasoner import Reasoner
from models.sru import sru_scan
from models.trm import trm_core


def _rotary(arch: BlockArch, prefix: int, seq_len: int) -> Rotary | None:
    head_dim = arch.hidden_size // arch.num_heads
    if arch.pos_encodings == "rope":
        return Rotary(rope_1d(prefix + seq_len, head_dim))
    if arch.pos_encodings == "rope2d":
        height, width = arch.board_height, arch.board_width
        if height is None or width is None or height * width != seq_len:
            raise ValueError(
                f"arch.pos_encodings=rope2d needs arch.board_height x arch.board_width to be the {seq_len} "
                f"tokens of the data set's puzzles, but they are {height} x {width}"
            )
        return Rotary(*rope_2d(height, width, prefix, head_dim))
    return None


def _stack(arch: BlockArch, layers: int, seq_len: int, backend: Backend) -> Stack:
    dim, prefix, attend, float8 = arch.hidden_size, arch.puzzle_tokens, backend.attention, backend.float8
    blocks: list[nn.Module]
    if arch.mlp_t:
        mixers = [MixerBlock(dim, prefix + seq_len, arch.expansion) for _ in range(layers)]
        blocks = [_kernels().FusedMixerBlock(block, float8) for block in mixers] if backend.kernels else [*mixers]
    else:
        rotary = _rotary(arch, prefix, seq_len)
        plain = [Block(dim, arch.num_heads, arch.expansion, rotary, attend or sdpa) for _ in range(layers)]
        blocks = [_kernels().FusedBlock(block, attend, float8) for block in plain] if backend.kernels else [*plain]
    return Stack(blocks)


def _kernels() -> ModuleType:
    return importlib.import_module("models.kernels.blocks")  # which needs Triton


def _core(arch: Arch, seq_len: int, dtype: torch.dtype, backend: Backend) -> Core:
    length = arch.puzzle_tokens + seq_len
    match arch:
        case EqRArch():
            stack = _stack(arch, arch.L_layers, seq_len, backend)
            if not backend.kernels:
                return eqr_core(arch, stack, length, dtype)
            draw = importlib.import_module("models.kernels.noise").truncated_normal
            return eqr_core(arch, stack, length, dtype, _kernels().FusedRelaxed, draw)
        case TRMArch():
            return trm_core(arch, _stack(arch, arch.L_layers, seq_len, backend), length, dtype)
        case HRMArch():
            H_level, L_level = (_stack(arch, layers, seq_len, backend) for layers in (arch.H_layers, arch.L_layers))
            return hrm_core(arch, H_level, L_level, length, dtype)
        case HRMSRUArch():
            scan = importlib.import_module("models.kernels.sru").sru_scan if backend.kernels else sru_scan
            return hrm_sru_core(arch, length, dtype, scan)
        case FeedforwardArch():
            stack = _stack(arch, arch.L_layers, seq_len, backend)
            return Repeated(stack, length, arch.hidden_size, dtype, arch.repeats)


def build(arch: Arch, shape: PuzzleShape, backend: Backend = PLAIN) -> Reasoner:
    """The reasoner that `arch` describes, for puzzles of a shape, on the CPU, computed by `backend`.

    Parameters are drawn from torch's global generator.

    Raises:
        ValueError: the architecture does not fit the puzzles (RoPE-2D's board).
    """
    dtype = getattr(torch, arch.forward_dtype)
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
        _core(arch, shape.seq_len, dtype, backend),
        Embedding(shape.vocab_size, dim, dtype),
        lm_head=Linear(dim, shape.vocab_size),
        q_head=Linear(dim, 2, bias=True),
        positions=positions,
        puzzle_emb=puzzle_emb,
    )


def place(model: Reasoner, backend: Backend, device: torch.device) -> None:
    """Moves a model to its device and, where the backend says so, compiles it in place or records its iterations.

    Compiled are the networks that an outer iteration applies again and again: one graph of one application,
    instead of the whole iteration unrolled, keeps the first step short.
    """
    model.to(device)
    if backend.graphs:
        graph = importlib.import_module("models.kernels.graph")
        model.advance = graph.GraphedWithoutGradient(model.advance, model)  # type: ignore[method-assign]
    if backend.compiled:
        for network in model.core.networks():
            network.compile(fullgraph=True, dynamic=False)
