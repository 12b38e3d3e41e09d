"""The blocks of models/layers.py by kernels: around a plain block, with its parameters, under the same names."""

from torch import Tensor, nn

from models.attention import AttentionFunction
from models.eqr import Relaxed
from models.kernels.attention import self_attention
from models.kernels.mlp import mlp_norm
from models.kernels.noise import NO_RELAXATION, Relaxation
from models.kernels.norm import linear_norm
from models.kernels.rotary import Rotation
from models.layers import Block, MixerBlock, Rotary, Stack, rms_norm


class FusedBlock(nn.Module):
    """Block. `attention` is the function of another library, or None for the kernel; `float8` as in mlp_norm."""

    def __init__(self, block: Block, attention: AttentionFunction | None, float8: bool) -> None:
        super().__init__()
        self.float8 = float8
        self.self_attn, self.mlp = block.self_attn, block.mlp
        self.own_attention = attention is None

    def forward(self, h_BLD: Tensor, step: Relaxation = NO_RELAXATION) -> Tensor:
        attn = self.self_attn
        if self.own_attention:
            mixed = self_attention(h_BLD, attn.qkv_proj.weight, attn.heads, _rotation(attn.rotary))
            h_BLD = linear_norm(h_BLD, mixed, attn.o_proj.weight, h_BLD.shape[-1] // attn.heads)
        else:
            h_BLD = rms_norm(h_BLD + attn(h_BLD))
        return mlp_norm(h_BLD, self.mlp.gate_up_proj.weight, self.mlp.down_proj.weight, step=step, float8=self.float8)


def _rotation(rotary: Rotary | None) -> Rotation | None:
    if rotary is None:
        return None
    return rotary.get_buffer("cos_LK"), rotary.get_buffer("sin_LK"), rotary.widths[0]


class FusedMixerBlock(nn.Module):
    """MixerBlock."""

    def __init__(self, block: MixerBlock, float8: bool) -> None:
        super().__init__()
        self.float8 = float8
        self.mlp_t, self.mlp = block.mlp_t, block.mlp

    def forward(self, h_BLD: Tensor, step: Relaxation = NO_RELAXATION) -> Tensor:
        h_BLD = mlp_norm(h_BLD, self.mlp_t.gate_up_proj.weight, self.mlp_t.down_proj.weight, over_positions=True)
        return mlp_norm(h_BLD, self.mlp.gate_up_proj.weight, self.mlp.down_proj.weight, step=step, float8=self.float8)


class FusedRelaxed(Relaxed):
    """Relaxed, of a Stack of the blocks above: the last block's norm makes the step."""

    f: Stack

    def forward(self, h_BLD: Tensor, inject_BLD: Tensor) -> Tensor:
        *layers, last = self.f.layers
        x_BLD = h_BLD + inject_BLD
        for layer in layers:
            x_BLD = layer(x_BLD)
        return last(x_BLD, Relaxation(h_BLD.contiguous(), self.lambda_, self.noise_scale))
