"""The building blocks of models, by kernels. Each stands for the plain part of `models/parts.py` in its place.

A fused block is made around a plain one and takes its parameters, under the same names.
"""

from torch import Tensor, nn

from models.attention import AttentionFunction, sdpa
from models.kernels.attention import self_attention
from models.kernels.attention.rotary import Rotation
from models.kernels.graph import graphed_without_gradient
from models.kernels.mlp import mlp_norm
from models.kernels.noise import NO_RELAXATION, Relaxation, truncated_normal
from models.kernels.norm import linear_norm
from models.kernels.sru import sru_scan
from models.layers import Block, MixerBlock, Rotary, Stack, rms_norm
from models.parts import Parts


class FusedBlock(nn.Module):
    """Block.

    Args:
        block: the plain block, whose parameters this one takes.
        own_attention: attention by the kernel; otherwise by the library that the plain block calls.
        float8: passes without gradient multiply in 8 bits, as `mlp_norm` says.
    """

    def __init__(self, block: Block, own_attention: bool, float8: bool = False) -> None:
        super().__init__()
        self.own_attention, self.float8 = own_attention, float8
        self.self_attn, self.mlp = block.self_attn, block.mlp

    def forward(self, h_BLD: Tensor, relaxation: Relaxation = NO_RELAXATION) -> Tensor:
        attn = self.self_attn
        if self.own_attention:
            mixed = self_attention(h_BLD, attn.qkv_proj.weight, attn.heads, _rotation(attn.rotary))
            h_BLD = linear_norm(h_BLD, mixed, attn.o_proj.weight, h_BLD.shape[-1] // attn.heads)
        else:
            h_BLD = rms_norm(h_BLD + attn(h_BLD))
        weights = self.mlp.gate_up_proj.weight, self.mlp.down_proj.weight
        return mlp_norm(h_BLD, *weights, relaxation=relaxation, float8=self.float8)


def _rotation(rotary: Rotary | None) -> Rotation | None:
    if rotary is None:
        return None
    return rotary.get_buffer("cos_LK"), rotary.get_buffer("sin_LK"), rotary.widths[0]


class FusedMixerBlock(nn.Module):
    """MixerBlock. The arguments are those of FusedBlock."""

    def __init__(self, block: MixerBlock, float8: bool = False) -> None:
        super().__init__()
        self.float8 = float8
        self.mlp_t, self.mlp = block.mlp_t, block.mlp

    def forward(self, h_BLD: Tensor, relaxation: Relaxation = NO_RELAXATION) -> Tensor:
        h_BLD = mlp_norm(h_BLD, self.mlp_t.gate_up_proj.weight, self.mlp_t.down_proj.weight, over_positions=True)
        weights = self.mlp.gate_up_proj.weight, self.mlp.down_proj.weight
        return mlp_norm(h_BLD, *weights, relaxation=relaxation, float8=self.float8)


class FusedRelaxed(nn.Module):
    """Relaxed, around a Stack of fused blocks: the kernel of the last block's norm also makes the step."""

    def __init__(self, f: Stack, lambda_: float, noise_scale: float) -> None:
        super().__init__()
        self.f, self.lambda_, self.noise_scale = f, lambda_, noise_scale

    def forward(self, h_BLD: Tensor, inject_BLD: Tensor) -> Tensor:
        *blocks, last = self.f.layers
        x_BLD = h_BLD + inject_BLD
        for block in blocks:
            x_BLD = block(x_BLD)
        return last(x_BLD, Relaxation(h_BLD.contiguous(), self.lambda_, self.noise_scale))


def fused(attention: AttentionFunction | None = None, float8: bool = False, graphs: bool = False) -> Parts:
    """Parts by kernels.

    Args:
        attention: attention of a library; None is the kernel.
        float8: passes without gradient multiply in 8 bits, as `mlp_norm` says.
        graphs: outer iterations without gradient run as CUDA graphs.
    """

    def block(dim: int, heads: int, expansion: float, rotary: Rotary | None) -> FusedBlock:
        return FusedBlock(Block(dim, heads, expansion, rotary, attention or sdpa), attention is None, float8)

    def mixer_block(dim: int, length: int, expansion: float) -> FusedMixerBlock:
        return FusedMixerBlock(MixerBlock(dim, length, expansion), float8)

    graphed = graphed_without_gradient if graphs else None
    return Parts(block, mixer_block, FusedRelaxed, truncated_normal, sru_scan, graphed)
