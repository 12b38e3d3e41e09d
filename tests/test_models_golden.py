"""Parity with the released programs on small models: float32, CPU, noise 0."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from safetensors import safe_open
from safetensors.torch import load_file

from config.architectures import Arch
from dataset.puzzles import Batch, PuzzleShape
from models.build import build
from models.halting import continue_target, halt
from models.losses import step_loss
from models.reasoner import State
from runtime.released import our_weights, released_name

GOLDEN = sorted((Path(__file__).parent / "golden" / "models").glob("*.safetensors"))


def relative_error(ours, golden):
    ours, golden = ours.double(), golden.double()
    return float((ours - golden).norm() / golden.norm().clamp(min=1e-12))


def latents(golden, prefix: str, name: str):
    """The golden latents in our order: recurrent units carry cells, [layers, B, D] there, [B, layers, D] here."""
    z_H, z_L = golden[prefix + "z_H"], golden[prefix + "z_L"]
    return (z_H.new_zeros(5, 10, 16), z_H.transpose(0, 1), z_L.transpose(0, 1)) if "sru" in name else (z_H, z_L)


def load(path: Path):
    """(golden arrays, arch, model with the golden weights, state before the first iteration)."""
    golden = load_file(path)
    with safe_open(path, "pt") as file:
        arguments = json.loads(file.metadata()["config"])
    keys = arguments.keys() - {"batch_size", "seq_len", "vocab_size", "num_puzzle_identifiers"}
    name = path.stem if "sru" in path.stem else path.stem[:3]
    if name in ("eqr", "trm"):
        keys -= {"H_layers"}
    if "sru" in name:
        keys -= {"num_heads", "expansion", "pos_encodings"}  # of no effect there
    if not arguments.get("puzzle_emb_ndim"):
        keys -= {"puzzle_emb_len"}
    arch = TypeAdapter(Arch).validate_python({"name": name, **{key: arguments[key] for key in keys}})
    shape = PuzzleShape(arguments["seq_len"], arguments["vocab_size"], arguments.get("num_puzzle_identifiers", 1))
    model = build(arch, shape)
    weights = {k.removeprefix("weights/"): v for k, v in golden.items() if k.startswith("weights/")}
    weights = {key.replace("_level.sru.", "_level."): w for key, w in weights.items()}
    model.load_state_dict(our_weights(weights, list(model.state_dict())))
    batch = Batch(golden["batch/inputs"], golden["batch/labels"], golden["batch/puzzle_identifiers"])
    state = model.start(batch)
    state = state._replace(latents=latents(golden, "", name), halted=torch.zeros_like(state.halted))
    return golden, arch, model, state, batch


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def case(request):
    return load(request.param)


def test_there_are_golden_files():
    assert len(GOLDEN) == 13


def test_evaluation(case):
    golden, arch, model, state, _ = case
    model.eval()
    with torch.no_grad():
        for step in (1, 2, 3):
            state, readout = model.advance(state)
            assert relative_error(readout.logits, golden[f"eval/{step}/logits"]) < 1e-5
            assert relative_error(readout.q_halt, golden[f"eval/{step}/q_halt"]) < 1e-5
            for ours, theirs in zip(state.latents[-2:], latents(golden, f"eval/{step}/", arch.name)[-2:], strict=True):
                assert relative_error(ours, theirs) < 1e-5
            loss, _ = step_loss(readout, state, arch)
            assert relative_error(loss, golden[f"eval/{step}/loss"][0]) < 1e-5


def test_training_step(case):
    golden, arch, model, state, batch = case
    if arch.name == "hrm_srupp":
        pytest.skip("the released program's training step draws dropout, so that there is no golden one")
    before = [z.clone() for z in state.latents]
    new, readout = model.step(state, batch)
    target = continue_target(model, new, arch) if arch.q_continue else None
    new = halt(new, readout, arch)
    loss, metrics = step_loss(readout, new, arch, target)
    loss.backward()

    assert relative_error(loss.detach(), golden["train/loss"][0]) < 1e-5
    assert relative_error(readout.logits.detach(), golden["train/out/logits"]) < 1e-5
    assert relative_error(readout.q_halt.detach(), golden["train/out/q_halt_logits"]) < 1e-5
    if "train/out/preds" in golden:
        assert torch.equal(readout.logits.argmax(-1), golden["train/out/preds"])
    if target is not None:
        assert relative_error(target, golden["train/out/target_q_continue"]) < 1e-5
        assert relative_error(readout.q_continue.detach(), golden["train/out/q_continue_logits"]) < 1e-5
    assert torch.equal(new.halted, golden["train/halted"])
    assert torch.equal(new.steps, golden["train/steps"])
    for ours, theirs in zip(new.latents[-2:], latents(golden, "train/", arch.name)[-2:], strict=True):
        assert relative_error(ours, theirs) < 1e-5
    assert not any(z.requires_grad for z in new.latents)
    for name in [key for key in golden if key.startswith("train/metric/")]:
        ours = metrics[name.removeprefix("train/metric/")]
        assert ours.item() == pytest.approx(golden[name].item(), rel=1e-5), name
    for name, parameter in model.named_parameters():
        key = "train/grad_norm/" + released_name(name)
        if key in golden:
            assert parameter.grad.norm().item() == pytest.approx(golden[key].item(), rel=1e-5), name
            first = golden[key.replace("grad_norm", "grad_first")]
            assert relative_error(parameter.grad.flatten()[: len(first)], first) < 1e-5, name
        else:
            assert name == "puzzle_emb.weights"
    # the argument is a value
    assert all(torch.equal(a, b) for a, b in zip(before, state.latents, strict=True))
    assert isinstance(state, State) and int(state.steps.sum()) == 0


@pytest.mark.parametrize("name, backend", [("eqr_mlp_t", "aot_eager"), ("trm_puzzle_emb", "eager")])
def test_step_compiles_into_one_graph(name, backend):
    _, _, model, state, batch = load(next(p for p in GOLDEN if p.stem == name))
    model.core.H_cycles, model.core.L_cycles = 2, 1  # a pass without gradient, and one with
    torch._dynamo.reset()
    step = torch.compile(model.step, fullgraph=True, backend=backend)
    new, readout = step(state, batch)
    expected, expected_readout = model.step(state, batch)
    assert relative_error(readout.logits.detach(), expected_readout.logits.detach()) < 1e-5
    assert torch.equal(new.steps, expected.steps)
