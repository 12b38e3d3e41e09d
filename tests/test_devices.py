"""Devices that are not here, such as a Mac's: the choice of one, and what is done without float64."""

from types import SimpleNamespace

import pytest
import torch

from config.load import load_eval, load_pretrain
from dataset.puzzles import Batch, PuzzleShape
from models import backend, devices
from models.build import build
from models.losses import log_stablemax, step_loss
from runtime import distributed

MPS = torch.device("mps")


def make_available(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name, kind in devices.DEVICES.items():
        here = name in (*names, "cpu")
        monkeypatch.setitem(devices.DEVICES, name, kind._replace(available=lambda here=here: here))


@pytest.fixture
def no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU computes with float32 at most, as a Mac's GPU does."""
    monkeypatch.setitem(devices.DEVICES, "cpu", devices.DEVICES["cpu"]._replace(widest=torch.float32))


@pytest.mark.parametrize(
    ("here", "processes", "taken"),
    [
        ([], 1, "cpu"),
        (["mps"], 1, "mps"),
        (["xpu"], 1, "xpu"),
        (["cuda", "mps", "xpu"], 1, "cuda"),
        (["mps"], 2, "cpu"),
        (["cuda", "mps"], 2, "cuda"),
    ],
)
def test_auto_takes_the_first_that_is_here(
    here: list[str], processes: int, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_available(monkeypatch, *here)
    assert devices.chosen("auto", processes) == taken
    assert load_eval(["checkpoint=x", f"device={taken}"]).device == taken


def test_a_device_that_is_not_here_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    make_available(monkeypatch)
    for name, what in (("cuda:1", "a GPU"), ("xpu", "a GPU"), ("mps", "a Mac")):
        with pytest.raises(ValueError, match=f"^device={name} needs {what} that PyTorch can use, .* use device=cpu$"):
            devices.chosen(name)
    make_available(monkeypatch, "mps")
    with pytest.raises(ValueError, match="^device=mps is for one process, but there are 2: use cuda or cpu$"):
        devices.chosen("mps", 2)
    assert distributed.start("mps").device == distributed.start("auto").device == MPS


def test_kernels_and_graphs_are_off_by_the_table() -> None:
    arch = load_pretrain(["train=eqr_sudoku"]).arch
    for name in ("mps", "xpu"):
        chosen = backend.choose(load_eval(["checkpoint=x"]), arch, torch.device(name))
        assert (chosen.kernels, chosen.compiled, chosen.graphs, chosen.float8) == (False, False, False, False)
        assert chosen.why == f"plain PyTorch, no kernels: the device is {name}"
        for word in ("kernels=float8", "attention=triton"):
            with pytest.raises(ValueError, match=f"{word} .*cannot run here: the device is {name}"):
                backend.choose(load_eval(["checkpoint=x", word]), arch, torch.device(name))


def loss_and_gradients() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Of a small model on random puzzles."""
    arch = load_pretrain(["train=eqr_sudoku", "arch.hidden_size=32", "arch.forward_dtype=float32"]).arch
    torch.manual_seed(0)
    model = build(arch, PuzzleShape(16, 6, 1))
    tokens = torch.randint(1, 6, (4, 16), dtype=torch.int32)
    state, readout = model.advance(model.start(Batch(tokens, tokens, torch.zeros(4, dtype=torch.int32))))
    loss, _ = step_loss(readout, state, arch)
    loss.backward()
    return loss.detach(), [p.grad for p in model.parameters() if p.grad is not None]


def test_a_training_step_without_float64(request: pytest.FixtureRequest) -> None:
    """It differs from the usual one by the rounding of float32."""
    usual, gradients = loss_and_gradients()
    request.getfixturevalue("no_float64")
    loss, others = loss_and_gradients()
    assert (usual.dtype, loss.dtype) == (torch.float64, torch.float32)
    assert float(loss) == pytest.approx(float(usual), rel=1e-5)
    assert len(gradients) == len(others) > 5
    for g, other in zip(gradients, others, strict=True):
        assert torch.allclose(g, other, rtol=1e-3, atol=1e-6)


def test_stablemax_without_float64(no_float64: None) -> None:
    x = torch.tensor([-1e4, -1.0, 0.0, 1.0, 1e4], requires_grad=True)
    values = log_stablemax(x)
    values.sum().backward()
    assert values.dtype == torch.float32 and torch.isfinite(x.grad).all()
    assert float(values.detach().exp().sum()) == pytest.approx(1, rel=1e-5)


def test_the_generators_of_a_mac_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [torch.tensor([1])]
    monkeypatch.setattr(
        torch,
        "mps",
        SimpleNamespace(get_rng_state=lambda: states[-1], set_rng_state=lambda state: states.append(state)),
    )
    before = torch.random.get_rng_state()
    with devices.fork_rng(MPS):
        states.append(torch.tensor([2]))
        torch.rand(3)
    assert int(states[-1]) == 1 and torch.equal(torch.random.get_rng_state(), before)
