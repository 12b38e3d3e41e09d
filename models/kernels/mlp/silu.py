"""silu(gate) * up and its gradients, for use inside kernels."""

import triton
import triton.language as tl


@triton.jit
def sigmoid(x, EXACT: tl.constexpr):
    """The logistic function.

    Not EXACT uses the hardware's tanh, off by at most 2^-11: one instruction, not an exponential and a division.
    """
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
    """(silu(gate) * up, the gradient of gate, the gradient of up), given the gradient of the first."""
    s = sigmoid(gate, EXACT)
    silu = gate * s
    return silu * up, d_act * up * s * (1.0 + gate * (1.0 - s)), d_act * silu
