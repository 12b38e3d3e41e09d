"""silu(gate) * up and its gradients, inside kernels."""

import triton
import triton.language as tl


@triton.jit
def sigmoid(x, EXACT: tl.constexpr):
    """Not EXACT: by the hardware's tanh, one instruction for an exponential and a division, within 2^-11."""
    if EXACT:
        return tl.sigmoid(x)
    half = tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=r,r", [0.5 * x], tl.float32, is_pure=True, pack=1)
    return 0.5 * half + 0.5


@triton.jit
def swiglu(gate, up, EXACT: tl.constexpr):
    """silu(gate) * up."""
    return gate * sigmoid(gate, EXACT) * up


@triton.jit
def swiglu_gradients(gate, up, d_act, EXACT: tl.constexpr):
    """(silu(gate) * up, the gradient of gate, the gradient of up) from the gradient of the first."""
    s = sigmoid(gate, EXACT)
    silu = gate * s
    return silu * up, d_act * up * s * (1.0 + gate * (1.0 - s)), d_act * silu
