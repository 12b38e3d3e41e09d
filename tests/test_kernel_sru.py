"""The kernel of the SRU recurrence against the loop over positions. Without a GPU, Triton interprets it."""

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from models.backend import has_triton

if not has_triton():
    pytest.skip("needs Triton 3.4 or newer", allow_module_level=True)

from models.kernels.sru import sru_scan as kernel  # noqa: E402
from models.sru import SRUStack, sru_scan  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = [(1, 1, 42), (3, 7, 44), (2, 7, 42), (1, 5, 200), (2, 3, 1)]  # B, L, D


def inputs(B: int, L: int, D: int, masked: bool = True) -> list[Tensor]:
    """u, x, c, weight_c, bias and, if `masked`, c_mask."""
    torch.manual_seed(B * L * D)
    shapes = [(B, L, D, 3), (B, L, D), (B, D), (2 * D,), (2 * D,), (B, D)]
    return [torch.randn(*shape, device=DEVICE) for shape in shapes[: 6 if masked else 5]]


def results(scan, tensors: Sequence[Tensor], d_out: Tensor, d_last: Tensor) -> list[Tensor]:
    """Outputs, last cells and the gradient of every input."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    out, last = scan(*leaves)
    torch.autograd.backward([out, last], [d_out, d_last])
    return [out.detach(), last.detach(), *(leaf.grad for leaf in leaves)]


def assert_close(found: Sequence[Tensor], wanted: Sequence[Tensor], error: float) -> None:
    for index, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        assert ours.shape == theirs.shape
        apart = (ours.double() - theirs.double()).abs().max() / theirs.double().abs().max().clamp(min=1e-6)
        assert apart < error, index  # NaN is not smaller


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fills new memory with NaN, so that unwritten numbers show."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_gradients_are_those_of_the_loop(shape: tuple[int, int, int], masked: bool) -> None:
    B, L, D = shape
    tensors = inputs(B, L, D, masked)
    d_out, d_last = torch.randn(B, L, D, device=DEVICE), torch.randn(B, D, device=DEVICE)
    wanted = results(sru_scan, [t.double() for t in tensors], d_out.double(), d_last.double())
    assert_close(results(kernel, tensors, d_out, d_last), wanted, 2e-6)
    with torch.no_grad():
        assert_close(kernel(*tensors), wanted[:2], 2e-6)


@pytest.mark.usefixtures("poisoned")
def test_any_strides() -> None:
    B, L, D = 2, 4, 42
    u, x, c, weight_c, bias, mask = inputs(B, L, D)
    planes = torch.empty(B, L, 3, D, device=DEVICE).transpose(2, 3).copy_(u)
    x = x.transpose(0, 1).contiguous().transpose(0, 1)
    others = [x, c[:1].expand(B, D), weight_c, bias, mask.T.contiguous().T]
    d_out, d_last = torch.ones((), device=DEVICE).expand(B, L, D), torch.ones((), device=DEVICE).expand(B, D)
    wanted = results(sru_scan, [u, *others], d_out, d_last)
    for same_u in (planes, u.flip(1).flip(1), torch.cat((u, u), dim=1)[:, :L]):
        assert_close(results(kernel, [same_u, *others], d_out, d_last), wanted, 2e-6)
        leaf = torch.nn.Parameter(same_u)
        kernel(leaf, *others)[0].backward(d_out)
        assert leaf.grad is not None and leaf.grad.shape == u.shape


def test_half_precision_errs_little_more_than_its_rounding() -> None:
    B, L, D = 2, 30, 44
    tensors = [t.bfloat16() for t in inputs(B, L, D)]
    d_out, d_last = torch.randn(B, L, D, device=DEVICE).bfloat16(), torch.randn(B, D, device=DEVICE).bfloat16()
    exact = results(sru_scan, [t.double() for t in tensors], d_out.double(), d_last.double())
    ours, loop = (results(scan, tensors, d_out, d_last) for scan in (kernel, sru_scan))
    assert [t.dtype for t in ours] == [t.dtype for t in loop]
    for mine, plain, right in zip(ours, loop, exact, strict=True):
        assert (mine - right).norm() < 0.01 * right.norm()
        assert (mine - right).norm() < 1.5 * (plain - right).norm()  # the interpreter cuts off, a GPU rounds


def test_gradients_repeat_to_the_bit() -> None:
    tensors, d_out, d_last = inputs(3, 4, 42), torch.randn(3, 4, 42, device=DEVICE), torch.randn(3, 42, device=DEVICE)
    first, second = (results(kernel, tensors, d_out, d_last) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("plusplus", [False, True])
def test_a_stack_runs_on_either(plusplus: bool) -> None:
    plain, fast = (SRUStack(2, 32, plusplus, scan).to(DEVICE) for scan in (sru_scan, kernel))
    fast.load_state_dict(plain.state_dict())
    x, c = torch.randn(2, 5, 32, device=DEVICE), torch.randn(2, 2, 32, device=DEVICE)
    found = []
    for stack in (plain, fast):
        torch.manual_seed(0)  # of dropout
        out, cells = stack(x, c)
        (out.sum() + cells.square().sum()).backward()
        found.append([out, cells, *(p.grad for p in stack.parameters())])
    assert_close(found[1], found[0], 1e-5)
