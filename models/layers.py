"""The layers that models share.

Shapes: B rows, S tokens of a puzzle, P puzzle-embedding tokens, L = P + S positions, D hidden size, H heads,
K = D / H head size, V vocabulary. Parameters are float32; every use casts them to the dtype of the activations.
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import AttentionFunction, sdpa
from models.precision import product

CUT = 2.0
CUT_STD = 0.8796256610342398  # std of N(0, 1) cut at +-2
TAIL = math.erf(CUT / math.sqrt(2.0))
EPS = 1e-5


def truncated_normal(
    *shape: int, std: float, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Samples of a normal distribution cut at two standard deviations and rescaled, so that their std is `std`.

    Samples by the inverse of the distribution function, which compiles into one graph. On the meta device, where a
    model has shapes alone, it draws nothing: arithmetic there would import half of PyTorch.
    """
    if std == 0:
        return torch.zeros(shape, device=device, dtype=dtype)
    uniform = torch.rand(shape, device=device)
    if uniform.device.type == "meta":
        return uniform.to(dtype)
    normal = torch.erfinv((2.0 * uniform - 1.0) * TAIL) * math.sqrt(2.0)
    return (normal.clamp(-CUT, CUT) * (std / CUT_STD)).to(dtype)


def rms_norm(x: Tensor) -> Tensor:
    """x * rsqrt(mean(x^2) + EPS) over the last axis, computed in float32, without gain."""
    x32 = x.float()
    return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + EPS)).to(x.dtype)


class Linear(nn.Module):
    """y = x W^T + b, with W [out, in] of std in^-0.5 and an optional bias b = 0."""

    def __init__(self, d_in: int, d_out: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(truncated_normal(d_out, d_in, std=d_in**-0.5))
        self.bias = nn.Parameter(torch.zeros(d_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.weight, self.bias)


class Embedding(nn.Module):
    """A table [rows, D] of std D^-0.5. Looks up rows in `dtype`.

    A look-up is a product with one-hot rows. For few rows it costs no more than an index. Its gradient is a product
    too, and adds in a fixed order. The gradient of an index does not, on a GPU.
    """

    def __init__(self, rows: int, dim: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.embedding_weight = nn.Parameter(truncated_normal(rows, dim, std=dim**-0.5))

    def forward(self, ids: Tensor) -> Tensor:
        one_hot = ids.unsqueeze(-1) == torch.arange(len(self.embedding_weight), device=ids.device)
        return product(one_hot.to(self.dtype), self.embedding_weight.T)


class SwiGLU(nn.Module):
    """down(silu(gate) * up), with (gate, up) = gate_up(x); inner width a multiple of 256."""

    def __init__(self, dim: int, expansion: float) -> None:
        super().__init__()
        inner = 256 * math.ceil(round(expansion * dim * 2 / 3) / 256)
        self.gate_up_proj = Linear(dim, 2 * inner)
        self.down_proj = Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        # two products with contiguous results: on a CPU a sixth faster than one product, cut in two
        gate, up = (product(x, weight) for weight in self.gate_up_proj.weight.chunk(2))
        if torch.is_grad_enabled():
            return self.down_proj(F.silu(gate) * up)
        return self.down_proj(F.silu(gate, inplace=True).mul_(up))  # nobody needs gate again: half of the memory


def _angles(positions: Tensor, dim: int) -> Tensor:
    """Angles [L, dim] of a half-split rotation over `dim` features: one for each frequency, twice over."""
    frequencies = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    angles_LF = positions.float()[:, None] * frequencies
    return torch.cat((angles_LF, angles_LF), dim=-1)


def rope_1d(length: int, head_dim: int) -> Tensor:
    """RoPE angles [length, head_dim] for positions 0 .. length-1."""
    return _angles(torch.arange(length), head_dim)


def rope_2d(height: int, width: int, prefix: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """RoPE-2D angles (by row, by column), each [prefix + height*width, head_dim / 2].

    The `prefix` puzzle-embedding tokens stand on no cell of the board, and do not turn.
    """
    cells = torch.arange(height * width)
    rows = F.pad(cells // width, (prefix, 0))
    columns = F.pad(cells % width, (prefix, 0))
    return _angles(rows, head_dim // 2), _angles(columns, head_dim // 2)


def _rotate(x_BLHK: Tensor, cos_LK: Tensor, sin_LK: Tensor) -> Tensor:
    first, second = x_BLHK.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return x_BLHK * cos_LK[:, None, :] + turned * sin_LK[:, None, :]


class Rotary(nn.Module):
    """Rotates queries and keys by fixed angles, in float32.

    `angles` holds one table [L, K'] for each part of a head. Each part turns by its own table, and the widths K' add up
    to the head size K.
    """

    def __init__(self, *angles: Tensor) -> None:
        super().__init__()
        self.widths = [part.shape[-1] for part in angles]
        table = torch.cat(angles, dim=-1)
        self.register_buffer("cos_LK", table.cos(), persistent=False)
        self.register_buffer("sin_LK", table.sin(), persistent=False)

    def forward(self, x_BLHK: Tensor) -> Tensor:
        parts = zip(
            x_BLHK.float().split(self.widths, dim=-1),
            self.get_buffer("cos_LK").split(self.widths, dim=-1),
            self.get_buffer("sin_LK").split(self.widths, dim=-1),
            strict=True,
        )
        return torch.cat([_rotate(x, cos, sin) for x, cos, sin in parts], dim=-1).to(x_BLHK.dtype)


def sinusoids(length: int, dim: int) -> Tensor:
    """Fixed sinusoidal positions [length, dim]: sine in even columns, cosine in odd ones."""
    angles = _angles(torch.arange(length), dim)[:, : dim // 2]
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


class Attention(nn.Module):
    """Bidirectional multi-head attention over the positions. `rotary` turns queries and keys."""

    def __init__(self, dim: int, heads: int, rotary: Rotary | None, attend: AttentionFunction = sdpa) -> None:
        super().__init__()
        self.heads = heads
        self.rotary = rotary
        self.attend = attend
        self.qkv_proj = Linear(dim, 3 * dim)
        self.o_proj = Linear(dim, dim)

    def forward(self, h_BLD: Tensor) -> Tensor:
        B, L, D = h_BLD.shape
        qkv = self.qkv_proj(h_BLD).view(B, L, 3 * self.heads, D // self.heads)
        q_BLHK, k_BLHK, v_BLHK = qkv.split(self.heads, dim=2)
        if self.rotary is not None:
            q_BLHK, k_BLHK = self.rotary(q_BLHK), self.rotary(k_BLHK)
        return self.o_proj(self.attend(q_BLHK, k_BLHK, v_BLHK).reshape(B, L, D))


class Block(nn.Module):
    """Post-norm block: h = norm(h + attention(h)); h = norm(h + mlp(h))."""

    def __init__(
        self, dim: int, heads: int, expansion: float, rotary: Rotary | None, attend: AttentionFunction = sdpa
    ) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads, rotary, attend)
        self.mlp = SwiGLU(dim, expansion)

    def forward(self, h_BLD: Tensor) -> Tensor:
        h_BLD = rms_norm(h_BLD + self.self_attn(h_BLD))
        return rms_norm(h_BLD + self.mlp(h_BLD))


class MixerBlock(nn.Module):
    """Post-norm block that mixes positions by a SwiGLU over them (`mlp_t`) instead of attention.

    The first norm runs over the positions, while they are the last axis.
    """

    def __init__(self, dim: int, length: int, expansion: float) -> None:
        super().__init__()
        self.mlp_t = SwiGLU(length, expansion)
        self.mlp = SwiGLU(dim, expansion)

    def forward(self, h_BLD: Tensor) -> Tensor:
        h_BDL = h_BLD.transpose(1, 2)
        h_BLD = rms_norm(h_BDL + self.mlp_t(h_BDL)).transpose(1, 2)
        return rms_norm(h_BLD + self.mlp(h_BLD))


class Stack(nn.Module):
    """f(h, inject) = blocks(h + inject): the network that a model applies again and again."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, h_BLD: Tensor, inject_BLD: Tensor) -> Tensor:
        h_BLD = h_BLD + inject_BLD
        for layer in self.layers:
            h_BLD = layer(h_BLD)
        return h_BLD
