"""Compares the kernels with float64 on a GPU: python -m benchmarks.check_kernels

The table has relative errors in norm: of a kernel's result and of its worst gradient, and the same for the plain code
in the same precision. Inputs are random. Memory that a kernel allocates is NaN until it writes there.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.attention import sdpa
from models.layers import EPS, Rotary, rms_norm, rope_1d
from models.relaxation import relax
from runtime.command import computing

LIMIT = 1e-2
Operation = Callable[..., Tensor]


class Case(NamedTuple):
    """A kernel and the plain code for the same arguments. The first `moving` are activations, the others weights."""

    name: str
    kernel: Operation
    plain: Operation
    shapes: list[tuple[int, ...]]
    moving: int
    gradient: bool = True  # whether the kernel has one


def _swiglu_norm(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
    return rms_norm_64(x + F.linear(F.silu(gate) * up, down))


def rms_norm_64(x: Tensor) -> Tensor:
    """rms_norm, but in float64 for float64. (rms_norm itself computes in float32.)"""
    if x.dtype != torch.float64:
        return rms_norm(x)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)


def _rounded(x: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    return (x / scale).to(torch.float8_e4m3fn).to(x) * scale


def _in_float8(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    gate_up, down = (_rounded(weight, weight.abs().amax() / 448) for weight in (gate_up, down))
    gate, up = F.linear(_rounded(x), gate_up).chunk(2, dim=-1)
    return rms_norm_64(x + F.linear(_rounded(F.silu(gate) * up), down))


def _step(x: Tensor, h: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    return relax(h, _swiglu_norm(x, gate_up, down), 0.7, 0.0)


def _over_positions(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    return _swiglu_norm(x.transpose(1, 2), gate_up, down).transpose(1, 2)


def _attention(length: int, heads: int, head_dim: int) -> Operation:
    def plain(h: Tensor, qkv: Tensor) -> Tensor:
        rotary = Rotary(rope_1d(length, head_dim)).to(h.device)
        q, k, v = F.linear(h, qkv).unflatten(-1, (3 * heads, head_dim)).split(heads, dim=2)
        if h.dtype == torch.float64:
            q, k = (_turn(t, rotary) for t in (q, k))
        else:
            q, k = rotary(q), rotary(k)
        return sdpa(q, k, v).flatten(-2)

    return plain


def _turn(x_BLHK: Tensor, rotary: Rotary) -> Tensor:
    first, second = x_BLHK.chunk(2, dim=-1)
    cos, sin = (rotary.get_buffer(name).to(x_BLHK)[:, None] for name in ("cos_LK", "sin_LK"))
    return x_BLHK * cos + torch.cat((-second, first), dim=-1) * sin


def cases(rows: int) -> Iterator[Case]:
    """Yields every kernel of the blocks, in the shapes of the shipped configurations."""
    from models.kernels.attention import self_attention
    from models.kernels.mlp import mlp_norm
    from models.kernels.noise import Relaxation
    from models.kernels.norm import linear_norm
    from models.kernels.weights import gather, spread

    def step(x: Tensor, h: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        return mlp_norm(x, gate_up, down, relaxation=Relaxation(h, 0.7, 0.0))

    def weights(D: int, N: int) -> list[tuple[int, ...]]:
        return [(2 * N, D), (D, N)]

    for L, D, N in ((900, 128, 512), (900, 44, 256), (81, 512, 1536)):
        yield Case(f"mlp_norm, D {D}", mlp_norm, _swiglu_norm, [(rows, L, D), *weights(D, N)], 1)
        yield Case(f"mlp_norm with a step, D {D}", step, _step, [(rows, L, D), (rows, L, D), *weights(D, N)], 2)

    def in_float8(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        with torch.no_grad():  # the same weights as the plain code, rounded to the activations' precision
            return mlp_norm(x, gate_up.to(x).float(), down.to(x).float(), float8=True)

    yield Case("mlp_norm in float8, D 512", in_float8, _in_float8, [(rows, 81, 512), *weights(512, 1536)], 1, False)
    for L, D, N in ((81, 512, 256), (97, 512, 512)):

        def mixer(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
            return mlp_norm(x, gate_up, down, over_positions=True)

        yield Case(f"mlp_norm over {L} positions", mixer, _over_positions, [(rows, L, D), *weights(L, N)], 1)
    for L, H, K in ((900, 8, 16), (900, 2, 22), (81, 8, 64)):
        D = H * K

        def add(h: Tensor, y: Tensor, w: Tensor, K: int = K) -> Tensor:
            return linear_norm(h, spread(y, 2, K), w, K)

        shapes = [(rows, L, D), (rows, L, D), (D, D)]
        yield Case(f"linear_norm, D {D}", add, lambda h, y, w: rms_norm_64(h + F.linear(y, w)), shapes, 2)
    for L, H, K in ((900, 8, 16), (900, 2, 22), (81, 8, 64)):

        def attend(h: Tensor, qkv: Tensor, L: int = L, H: int = H, K: int = K) -> Tensor:
            rotary = Rotary(rope_1d(L, K)).to(h.device)
            rotation = rotary.get_buffer("cos_LK"), rotary.get_buffer("sin_LK"), K
            return gather(self_attention(h, qkv, H, rotation), 2, K)

        shapes = [(rows, L, H * K), (3 * H * K, H * K)]
        yield Case(f"self_attention, {H} heads of {K}", attend, _attention(L, H, K), shapes, 1)


def results(operation: Operation, inputs: list[Tensor], weight: Tensor, gradient: bool) -> list[Tensor]:
    """An operation's result and, if it has a gradient, those of all its inputs."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    out = operation(*leaves)
    if not gradient:
        return [out.detach()]
    return [out.detach(), *torch.autograd.grad(out, leaves, weight.to(out))]


def errors(case: Case, dtype: torch.dtype, device: torch.device) -> list[float]:
    """Errors of the kernel's result and of its worst gradient, then of the plain code's. NaN: left unwritten."""
    torch.manual_seed(0)
    inputs = [torch.randn(shape, device=device) for shape in case.shapes]
    inputs = [t if i < case.moving else t / t.shape[-1] ** 0.5 for i, t in enumerate(inputs)]
    exact = [t.to(dtype).double() for t in inputs]
    weight = torch.randn(case.shapes[0], device=device)
    expected = results(case.plain, exact, weight.to(dtype), case.gradient)
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills new memory with NaN
    given = [t.to(dtype) if i < case.moving else t for i, t in enumerate(inputs)]
    ours = results(case.kernel, given, weight, case.gradient)
    torch.use_deterministic_algorithms(False)
    plain = results(case.plain, [t.to(dtype) for t in inputs], weight, case.gradient)
    pairs: list[float] = []
    for tensors in (ours, plain):
        apart = [float((a.double() - b).norm() / b.norm()) for a, b in zip(tensors, expected, strict=True)]
        pairs += [apart[0], max(apart[1:], key=lambda value: (value != value, value), default=0.0)]
    return pairs


def small(pairs: list[float]) -> bool:
    """Whether the kernel's two errors are below LIMIT. NaN is not."""
    return all(value < LIMIT for value in pairs[:2])


@computing("end other programs on this GPU")
def main() -> None:
    """The command line: prints the table. A large error is a mistake."""
    if not torch.cuda.is_available():
        raise ValueError("this check needs a GPU, and PyTorch finds none here")
    device, fine = torch.device("cuda"), True
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bfloat16 against float64")
    print("| kernel | error | of gradients | plain code | of gradients |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for case in cases(rows=8):
        pairs = errors(case, torch.bfloat16, device)
        fine = fine and small(pairs)
        print(f"| {case.name} | {' | '.join(f'{value:.1e}' for value in pairs)} |", flush=True)
    if not fine:
        raise ValueError(f"an error is not below {LIMIT}")


if __name__ == "__main__":
    main()
