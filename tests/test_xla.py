"""XLA against PyTorch: models, evaluations, devices and processes. Skipped without jax, the extra `xla`."""

import os
from functools import partial

import numpy as np
import pytest
import torch

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=8 {os.environ.get('XLA_FLAGS', '')}"
jax = pytest.importorskip("jax", reason="needs jax: pip install -e .[xla]")

import jax.numpy as jnp  # noqa: E402
from pydantic import TypeAdapter  # noqa: E402
from test_models_golden import GOLDEN, latents, load, relative_error  # noqa: E402

from config.architectures import Arch  # noqa: E402
from dataset.puzzles import Batch, PuzzleShape  # noqa: E402
from models.build import build  # noqa: E402
from xla import cores, reasoner  # noqa: E402
from xla.layers import Static  # noqa: E402
from xla.randomness import trajectory_keys  # noqa: E402

CPU = torch.device("cpu")


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().numpy() if tensor.is_floating_point() else tensor.numpy()


def tensor(array: jax.Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def iterations(model, arch, batch, latents):
    """Yields (latents, readout) after each outer iteration, without noise."""
    static = Static(arch, batch.inputs.shape[1])
    parameters = reasoner.parameters(model.state_dict(), static)

    @jax.jit
    def iterate(parameters, latents):
        x_BLD = reasoner.embed(parameters, static, array(batch.inputs), array(batch.puzzle_ids))
        return reasoner.iterate(parameters, static, latents, x_BLD, lambda n: 0.0)

    latents = tuple(jnp.asarray(array(z), static.dtype) for z in latents)
    while True:
        latents, readout = iterate(parameters, latents)
        yield latents, readout


def architecture(**values) -> Arch:
    common = {"hidden_size": 32, "num_heads": 2, "expansion": 1, "halt_max_steps": 4}
    return TypeAdapter(Arch).validate_python(common | values)


EQR = {"name": "eqr", "L_layers": 1, "H_cycles": 2, "L_cycles": 1}

# -- models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_models(path):
    """Logits, q_halt and latents of the released programs, after 1, 2 and 3 iterations."""
    golden, arch, model, state, batch = load(path)
    for step, (z, readout) in zip((1, 2, 3), iterations(model, arch, batch, state.latents), strict=False):
        assert relative_error(tensor(readout.logits), golden[f"eval/{step}/logits"]) < 1e-5
        assert relative_error(tensor(readout.q_halt), golden[f"eval/{step}/q_halt"]) < 1e-5
        for ours, theirs in zip(z[-2:], latents(golden, f"eval/{step}/", arch.name)[-2:], strict=True):
            assert relative_error(tensor(ours), theirs) < 1e-5


@pytest.mark.parametrize(
    ("values", "tolerance"),
    [
        (EQR | {"noise_scale": 0, "forward_dtype": "bfloat16", "pos_encodings": "rope"}, 0.05),
        ({"name": "feedforward", "L_layers": 5, "repeats": 2}, 1e-5),
        ({"name": "trm", "L_layers": 1, "H_layers": 2, "H_cycles": 1, "L_cycles": 2}, 1e-5),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_models_without_golden_numbers(values, tolerance):
    """bfloat16, many distinct blocks, and TRM with a second network: as PyTorch computes them."""
    arch = architecture(**{"forward_dtype": "float32"} | values)
    torch.manual_seed(0)
    model = build(arch, PuzzleShape(9, 7, 1)).eval()
    inputs = torch.randint(1, 7, (2, 3, 9), dtype=torch.int32)
    batch = Batch(inputs[0], inputs[1], torch.zeros(3, dtype=torch.int32))
    state = model.start(batch)
    z, readout = next(iterations(model, arch, batch, state.latents))
    with torch.no_grad():
        state, expected = model.advance(state)
    assert relative_error(tensor(readout.logits), expected.logits) < tolerance
    for ours, theirs in zip(z, state.latents, strict=True):
        assert ours.dtype == arch.forward_dtype and relative_error(tensor(ours), theirs) < tolerance


def test_starts_have_their_distribution_and_depend_on_their_own_numbers_alone():
    arch = architecture(**EQR | {"H_init_std": 0.5, "forward_dtype": "float32"})
    start = jax.jit(partial(cores.start, {}, Static(arch, 81)), static_argnums=1)
    puzzles, restarts = np.arange(64) // 4, np.arange(64) % 4
    z_H, z_L = start(trajectory_keys(0, puzzles, restarts), None)
    for z, std in ((z_H, 0.5), (z_L, 1.0)):
        assert abs(float(z.mean())) < 0.01 * std and abs(float(z.std()) / std - 1) < 0.01
        assert abs(float(jnp.abs(z).max()) / std - 2 / 0.8796256610342398) < 0.01
    assert abs(np.corrcoef(z_H.ravel(), z_L.ravel())[0, 1]) < 0.01
    assert len(np.unique(z_L[:, 0, 0])) == 64
    few = np.array([37, 5])
    again = start(trajectory_keys(0, puzzles[few], restarts[few]), None)
    assert np.array_equal(again[1], z_L[few])
    assert not np.array_equal(start(trajectory_keys(1, puzzles[few], restarts[few]), None)[1], z_L[few])
