"""The building blocks of models, in plain PyTorch. `models/kernels/parts.py` has fused ones.

`Backend.parts` (models/backend.py) chooses between the two, once, when a model is built.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

from config.architectures import BlockArch
from models.attention import AttentionFunction, sdpa
from models.core import Draw
from models.layers import Block, MixerBlock, Rotary, Stack, rope_1d, rope_2d, truncated_normal
from models.reasoner import Advance
from models.relaxation import Relaxed
from models.sru import Scan, sru_scan


class Parts(NamedTuple):
    """What a backend computes in its own way. Both backends name parameters alike and draw them alike."""

    block: Callable[[int, int, float, Rotary | None], nn.Module]  # hidden size, heads, expansion, rotary positions
    mixer_block: Callable[[int, int, float], nn.Module]  # hidden size, positions, expansion
    relaxed: Callable[[Stack, float, float], nn.Module]  # network, lambda_, noise_scale
    draw: Draw
    scan: Scan
    graphed: Callable[[Advance, nn.Module], Advance] | None = None  # makes iterations of a model a CUDA graph

    def stack(self, arch: BlockArch, layers: int, length: int) -> Stack:
        """A network of `layers` blocks over `length` positions.

        Raises:
            ValueError: the board of RoPE-2D does not have as many cells as the puzzles have tokens.
        """
        dim, expansion = arch.hidden_size, arch.expansion
        if arch.mlp_t:
            return Stack(self.mixer_block(dim, length, expansion) for _ in range(layers))
        rotary = _rotary(arch, length)
        return Stack(self.block(dim, arch.num_heads, expansion, rotary) for _ in range(layers))


def _rotary(arch: BlockArch, length: int) -> Rotary | None:
    head_dim, prefix = arch.hidden_size // arch.num_heads, arch.puzzle_tokens
    if arch.pos_encodings == "rope":
        return Rotary(rope_1d(length, head_dim))
    if arch.pos_encodings == "rope2d":
        height, width, seq_len = arch.board_height, arch.board_width, length - prefix
        if height is None or width is None or height * width != seq_len:
            raise ValueError(
                f"arch.pos_encodings=rope2d needs arch.board_height x arch.board_width to be the {seq_len} "
                f"tokens of the data set's puzzles, but they are {height} x {width}"
            )
        return Rotary(*rope_2d(height, width, prefix, head_dim))
    return None


def plain(attention: AttentionFunction = sdpa) -> Parts:
    """Parts in plain PyTorch, with the given attention."""
    return Parts(partial(Block, attend=attention), MixerBlock, Relaxed, truncated_normal, sru_scan)


PLAIN = plain()
