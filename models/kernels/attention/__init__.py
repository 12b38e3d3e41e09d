"""Attention for small heads: the projection with its rotary positions, and attention, up to the output projection."""

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from models.kernels import weights
from models.kernels.attention.backward import attend_backward
from models.kernels.attention.forward import attend
from models.kernels.attention.rotary import Rotation, project, rotate_


class _SelfAttention(Function):
    @staticmethod
    def forward(ctx, h: Tensor, qkv: Tensor, heads: int, rotation: Rotation | None) -> Tensor:
        qkv_BLE, longest = project(h, qkv, heads, rotation)
        out, lse = attend(qkv_BLE, heads, longest)
        K = h.shape[2] // heads
        ctx.save_for_backward(h, weights.kernel_copy(qkv, h.dtype, heads=(0, K)), qkv_BLE, out, lse)
        ctx.heads, ctx.K, ctx.rotation = heads, K, rotation
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor, Tensor, None, None]:
        h, w_qkv, qkv_BLE, out, lse = ctx.saved_tensors
        d_qkv = attend_backward(qkv_BLE, ctx.heads, out, lse, d_out.contiguous())
        rotate_(d_qkv, ctx.heads, ctx.K, ctx.rotation, -1.0)
        d_weight = d_qkv.flatten(0, 1).T @ h.flatten(0, 1)
        return d_qkv @ w_qkv, weights.gather(d_weight, 0, ctx.K).float(), None, None


def self_attention(h_BLD: Tensor, qkv: Tensor, heads: int, rotation: Rotation | None) -> Tensor:
    """Attention of h over its positions, [B, L, heads * weights.stride(K)], for the output projection.

    `qkv` [3 D, D] is the weight that projects h to queries, keys and values.
    """
    return _SelfAttention.apply(h_BLD.contiguous(), qkv, heads, rotation)
