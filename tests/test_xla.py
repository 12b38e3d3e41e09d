"""XLA against PyTorch: models, evaluations, devices and processes. Skipped without jax, the extra `xla`."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

os.environ.setdefault("JAX_PLATFORMS", "cpu")
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"  # compiles in a third of the time
os.environ["XLA_FLAGS"] = f"{FLAGS} {os.environ.get('XLA_FLAGS', '')}"
jax = pytest.importorskip("jax", reason="needs jax: pip install -e '.[xla]'")
importlib.import_module("jax.export")

import jax.numpy as jnp  # noqa: E402
from conftest import CPU, ROOT, command, exit_code, metrics_of, results_of, start  # noqa: E402
from forked import free_port  # noqa: E402
from pydantic import TypeAdapter  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402
from test_build_sudoku import ANSWER, QUESTION  # noqa: E402
from test_evaluation import golden_model  # noqa: E402
from test_models_golden import GOLDEN, latents, load, relative_error  # noqa: E402

import evaluate as program  # noqa: E402
import xla.engine  # noqa: E402
from benchmarks import xla as benchmark  # noqa: E402
from config.architectures import Arch, TRMArch  # noqa: E402
from dataset.layout import puzzle_split, write_dataset  # noqa: E402
from dataset.puzzles import Batch, Puzzles, PuzzleShape  # noqa: E402
from evaluation.engine import TorchEngine  # noqa: E402
from evaluation.halting import Halting  # noqa: E402
from evaluation.observations import concatenate  # noqa: E402
from evaluation.settings import Settings  # noqa: E402
from evaluation.trajectory import trajectory as torch_trajectory  # noqa: E402
from evaluation.units import Plan, metrics_by_depth, run_units, unit_runs  # noqa: E402
from models.backend import PLAIN  # noqa: E402
from models.build import build  # noqa: E402
from runtime.load import Evaluable  # noqa: E402
from xla import Evaluator, export, reasoner  # noqa: E402
from xla.layers import Static, require_support  # noqa: E402
from xla.randomness import NOISE, START, fold, normal, trajectory_keys  # noqa: E402

CHECKPOINTS = Path(__file__).parent / "golden" / "checkpoints"


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
    start = jax.jit(partial(reasoner.start, {}, Static(arch, 81)))
    puzzles, restarts = np.arange(64) // 4, np.arange(64) % 4
    z_H, z_L = start(trajectory_keys(0, puzzles, restarts))
    for z, std in ((z_H, 0.5), (z_L, 1.0)):
        assert abs(float(z.mean())) < 0.01 * std and abs(float(z.std()) / std - 1) < 0.01
        assert abs(float(jnp.abs(z).max()) / std - 2 / 0.8796256610342398) < 0.01
    assert abs(np.corrcoef(z_H.ravel(), z_L.ravel())[0, 1]) < 0.01
    assert len(np.unique(z_L[:, 0, 0])) == 64
    few = np.array([37, 5])
    again = start(trajectory_keys(0, puzzles[few], restarts[few]))
    assert np.array_equal(again[1], z_L[few])
    assert not np.array_equal(start(trajectory_keys(1, puzzles[few], restarts[few]))[1], z_L[few])


def test_noise_is_normal_and_differs_by_trajectory_iteration_and_application():
    keys = trajectory_keys(3, np.arange(4), np.zeros(4, int))
    first = normal(fold(keys, 1), (50, 500), jnp.float32)
    others = [normal(fold(keys, 2), (50, 500), jnp.float32), normal(fold(fold(keys, 1), 0), (50, 500), jnp.float32)]
    for noise in (first, *others):
        z = torch.from_numpy(np.sort(np.ravel(noise))).double()
        middles = (torch.arange(len(z)) + 0.5) / len(z)
        assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01 and abs((z**4).mean() - 3) < 0.1
        assert (torch.special.ndtr(z) - middles).abs().max() < 1.63 / len(z) ** 0.5  # Kolmogorov and Smirnov's 1%
        assert 3.8 < z.max() < 4.33 and 3.8 < -z.min() < 4.33
    rows = np.concatenate([np.reshape(noise, (4, -1)) for noise in (first, *others)])
    neighbours = np.reshape(first, (-1, 8)).T  # two blocks of random bits
    for independent in (rows, neighbours):
        assert np.abs(np.corrcoef(independent) - np.eye(len(independent))).max() < 0.03


def test_noise_of_any_shape_and_dtype_is_the_same():
    """A row's numbers are its own: their count is no multiple of a block's four, and bfloat16 rounds them."""
    keys = trajectory_keys(3, np.arange(3), np.zeros(3, int))
    noise = normal(keys, (7, 5), jnp.float32)
    assert np.array_equal(noise[1:], normal(keys[1:], (7, 5), jnp.float32))
    assert np.array_equal(noise.astype(jnp.bfloat16), normal(keys, (7, 5), jnp.bfloat16))
    assert len(np.unique(noise)) == noise.size


# -- evaluations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["eqr", "trm"])
def test_golden_checkpoints(name):
    """The released programs' metrics at depth 1 and 4; their own float32 decides depth 16 of one puzzle."""
    words = [f"checkpoint={CHECKPOINTS / name}_maze9.pth", f"dataset_data_path={CHECKPOINTS / 'maze9'}"]
    found = Evaluator.load(*words, "forward_dtype=float32", "halt_max_steps=[1,4]").evaluate()
    expected = json.loads((CHECKPOINTS / "expected.json").read_text())[name]
    for depth in (1, 4):
        for key, value in expected[f"halt_max_steps={depth}"].items():
            undecided = 1 / (100 * 81) if (name, depth, key) == ("eqr", 4, "all/accuracy") else 0.0
            assert abs(found[depth][key] - value) <= 1e-5 + undecided, (depth, key)


@pytest.fixture(scope="module")
def eqr(tiny_data) -> tuple[Evaluable, Puzzles]:
    """A small EqR that knows nothing, with much noise, and its puzzles."""
    data = Puzzles(tiny_data, "test", CPU)
    arch = architecture(**EQR | {"mlp_t": True, "noise_scale": 0.5, "lambda_": 0.3, "forward_dtype": "float32"})
    torch.manual_seed(1)
    model = build(arch, data.shape)
    return Evaluable(arch, model, model.core.start, PLAIN), data


PLAIN_RUN = Settings([1, 3, 6], breadth=3, top_k=1, rows=33, seed=5, perturb_std=0.1)
STREAMING = replace(PLAIN_RUN, depths=[6], halting=Halting(residual=1.5, patience=1), agree=1, rows=5)


def metrics(engine, settings):
    plan = Plan.of(settings, len(engine.data), None)
    return metrics_by_depth(list(run_units(engine, plan, plan.units)), len(engine.data), settings)


def test_breadth_with_the_same_starts_and_noise_is_that_of_pytorch(eqr, monkeypatch):
    """All metrics at all depths, of PyTorch with the starts and the noise of XLA."""
    evaluable, data = eqr
    settings = replace(PLAIN_RUN, perturb_std=0.0)
    static = Static(evaluable.arch, data.shape.seq_len)
    torchs = TorchEngine(evaluable.model, evaluable.start, data, settings)
    drawn = 0

    def starts(puzzles_R, restarts_R, _):
        nonlocal keys
        keys = trajectory_keys(settings.seed, puzzles_R, restarts_R)
        return tuple(map(tensor, reasoner.start({}, static, fold(keys, START))))

    def noise(like):
        nonlocal drawn
        iteration, n = divmod(drawn, 4)  # H_cycles * (L_cycles + 1) in an iteration
        drawn += 1
        return tensor(normal(fold(fold(fold(keys, iteration), NOISE), n), like.shape[1:], jnp.float32))

    keys = None
    monkeypatch.setattr(torchs, "_starts", starts)
    monkeypatch.setattr(torch, "randn_like", noise)
    expected, found = metrics(torchs, settings), metrics(Evaluator(*eqr, settings), settings)
    assert drawn == 6 * 4
    for depth in settings.depths:
        assert found[depth].keys() == expected[depth].keys()
        for name, value in expected[depth].items():
            assert found[depth][name] == pytest.approx(value, rel=1e-4, abs=1e-5, nan_ok=True), (depth, name)


def observed(eqr, settings, devices):
    """(Answers, scores, how many trajectories of each puzzle count) at the largest depth."""
    evaluator = Evaluator(*eqr, settings, jax.devices()[:devices])
    plan = Plan.of(settings, len(evaluator.data), None)
    runs = list(unit_runs(evaluator, plan, plan.units))
    seen = concatenate([run.by_depth[6] for run in runs])
    return seen.predictions_RS, seen.scores_R, np.concatenate([run.kept_N for run in runs])


@pytest.mark.parametrize("settings", [PLAIN_RUN, STREAMING], ids=["plain", "streaming"])
def test_neither_devices_nor_slots_change_the_results(eqr, settings):
    answers, scores, kept = observed(eqr, settings, 1)
    assert len(answers) == kept.sum() and len(np.unique(answers, axis=0)) > 3
    assert (kept == 3).all() != (settings is STREAMING)
    for devices, rows in ((2, settings.rows), (8, 12)):
        others = observed(eqr, replace(settings, rows=rows, look_interval=3), devices)
        assert np.array_equal(answers, others[0]) and np.array_equal(kept, others[2])
        np.testing.assert_allclose(scores, others[1], rtol=1e-4)


def test_streaming_without_a_rule_is_the_plain_evaluation(eqr):
    settings = replace(PLAIN_RUN, depths=[6])
    plain = metrics(Evaluator(*eqr, settings), settings)[6]
    streaming = replace(settings, halting=Halting(), rows=7)
    found = metrics(Evaluator(*eqr, streaming), streaming)[6]
    assert found.keys() - plain.keys() == {"all/forced", "nfe/abandoned", "nfe/busy"}
    for name, value in plain.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5, nan_ok=True), name


# -- the program ----------------------------------------------------------------------------------------------

WORDS = [
    f"checkpoint={CHECKPOINTS / 'trm_maze9.pth'}",
    f"dataset_data_path={CHECKPOINTS / 'maze9'}",
    "forward_dtype=float32",
    "different_init=2",
    "convergence_top_k=1",
    "max_puzzles=8",
    "global_batch_size=4",
    "halt_max_steps=2",
    "device=cpu",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of an evaluation in one go."""
    directory = tmp_path_factory.mktemp("xla")
    assert exit_code(program.main, [*WORDS, "engine=xla", "per_puzzle=true", f"eval_dir={directory}"]) == 0
    return directory


def test_the_files_are_those_of_pytorch(whole, tmp_path):
    assert exit_code(program.main, [*WORDS, "per_puzzle=true", f"eval_dir={tmp_path}"]) == 0
    assert sorted(path.name for path in whole.iterdir()) == sorted(path.name for path in tmp_path.iterdir())
    ours, theirs = results_of(whole), results_of(tmp_path)
    assert ours.keys() == theirs.keys() and ours["metrics"]["2"].keys() == theirs["metrics"]["2"].keys()
    heads = [(directory / "per_puzzle.csv").read_text().splitlines()[0] for directory in (whole, tmp_path)]
    assert heads[0] == heads[1]
    assert ours["backend"] == f"XLA, jax {jax.__version__}" and ours["device"] == "8 x cpu"
    assert ours["settings"]["engine"] == "xla" and theirs["settings"]["engine"] == "torch"


@pytest.mark.parametrize("engine", ["torch", "xla"])
def test_the_stored_start_with_hardly_any_noise_is_the_one_start(engine, tmp_path):
    """`different_init_reset_std=null`: random starts of std 1 would answer otherwise."""
    words = [*WORDS, f"engine={engine}", "convergence_top_k=null"]
    assert exit_code(program.main, [*words, "different_init=1", f"eval_dir={tmp_path / 'one'}"]) == 0
    words += ["different_init_reset_std=null", "perturb_std=1e-7"]
    assert exit_code(program.main, [*words, f"eval_dir={tmp_path / 'two'}"]) == 0
    one, two = (metrics_of(tmp_path / name)["2"] for name in ("one", "two"))
    for name in ("all/lm_loss", "all/residual", "all/exact_accuracy"):
        assert two[name] == pytest.approx(one[name], rel=1e-3), name


def test_shards_and_what_a_kill_leaves_make_the_same_whole(whole, tmp_path, monkeypatch):
    words = [*WORDS, "engine=xla", "per_puzzle=true", f"eval_dir={tmp_path}"]

    def killed(*arguments):
        yield next(run_units(*arguments))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(program, "run_units", killed)
        assert exit_code(program.main, [*words, "shard=1/2"]) == 130
    assert exit_code(program.main, [*words, "engine=torch", "shard=1/2"]) == 1
    for shard in ("1/2", "2/2"):
        assert exit_code(program.main, [*words, f"shard={shard}"]) == 0
    assert command("-m", "evaluation.merge", str(tmp_path)).returncode == 0
    assert metrics_of(tmp_path) == metrics_of(whole)


def test_two_processes_of_jaxs_runtime_share_the_work(whole, tmp_path):
    words = [*WORDS, "engine=xla", "per_puzzle=true", f"eval_dir={tmp_path}"]
    group = {"JAX_COORDINATOR_ADDRESS": f"localhost:{free_port()}", "JAX_NUM_PROCESSES": "2", "JAX_PLATFORMS": "cpu"}
    running = [start("evaluate.py", *words, JAX_PROCESS_ID=str(rank), **group) for rank in range(2)]
    ended = [process.end() for process in running]
    assert [process.returncode for process in ended] == [0, 0], ended
    assert metrics_of(tmp_path) == metrics_of(whole) and results_of(tmp_path)["processes"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["kernels=off"], "kernels=off has no effect with engine=xla"),
        (["forward_dtype=float64"], "engine=xla computes in bfloat16, float16 or float32, not in"),
        (["device=cuda"], "device=cuda needs a device that JAX can use"),
    ],
)
def test_what_xla_does_not_support_is_one_sentence(words, said, tmp_path, capsys):
    assert exit_code(program.main, [*WORDS, "engine=xla", f"eval_dir={tmp_path / 'new'}", *words]) == 1
    assert f"error: {said}" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_a_model_that_xla_does_not_have_is_refused():
    """With the keys of TRM it would otherwise be computed as TRM."""

    class Mine(TRMArch):
        name: Literal["mine"]

    trm = architecture(**EQR | {"name": "trm"})
    require_support(trm)
    with pytest.raises(ValueError, match="engine=xla has no arch.name=mine"):
        require_support(Mine.model_validate(trm.model_dump() | {"name": "mine"}))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["forward_dtype=float64"], 1, "error: engine=xla computes in bfloat16, float16 or float32, not in"),
        (["streaming=true"], 1, "error: streaming has no effect in an exported iteration"),
        (["halt_max_steps=3"], 1, "error: halt_max_steps has no effect in an exported iteration"),
        (["checkpoint=other"], 1, "error: checkpoint has no effect in an exported iteration"),
        (["--rows=0"], 2, "argument --rows: should be a whole number from 1 on, but it is 0"),
    ],
)
def test_what_is_not_exported_is_one_sentence(words, code, said, tmp_path, capsys):
    words = [*words, f"dataset_data_path={CHECKPOINTS / 'maze9'}"]
    assert exit_code(export.main, [str(CHECKPOINTS / "eqr_maze9.pth"), str(tmp_path / "out"), *words]) == code
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_xla_is_not_measured_on_more_devices_than_there_are(tmp_path, capsys):
    many = jax.local_device_count() + 1
    assert exit_code(benchmark.main, ["quickstart", f"--devices={many}", f"--output={tmp_path / 'new'}"]) == 1
    assert f"error: --devices should be at most {many - 1}," in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_too_little_memory_is_one_sentence(tmp_path, monkeypatch, capsys):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 10 bytes.")
        yield

    monkeypatch.setattr(program, "run_units", exhausted)
    assert exit_code(program.main, [*WORDS, "engine=xla", f"eval_dir={tmp_path / 'new'}"]) == 1
    assert capsys.readouterr().err.endswith(
        "error: out of memory; give a smaller global_batch_size (and a new eval_dir)\n"
    )


def test_torchrun_a_missing_number_and_a_missing_jax_are_one_sentence(tmp_path, monkeypatch, capsys):
    words = [*WORDS, "engine=xla", f"eval_dir={tmp_path / 'new'}"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert exit_code(program.main, words) == 1
    monkeypatch.delenv("WORLD_SIZE")
    for address in ("localhost", "localhost:1"):
        monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", address)
        assert exit_code(program.main, words) == 1
    for name in [name for name in sys.modules if name.partition(".")[0] == "xla"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jax", None)
    assert exit_code(program.main, words) == 1
    first, second, third, fourth = capsys.readouterr().err.splitlines()
    assert first.startswith("error: engine=xla takes all devices of a host in one process")
    assert second == "error: JAX_COORDINATOR_ADDRESS should be HOST:PORT, but it is 'localhost'"
    assert third == "error: JAX_NUM_PROCESSES should be a whole number from 1 on, but it is not set"
    assert fourth.startswith("error: engine=xla needs jax, which is not installed")


def test_models_and_evaluation_are_short():
    names = ("attention", "layers", "randomness", "reasoner", "trajectory", "engine")
    assert sum(len((ROOT / "xla" / f"{name}.py").read_text().splitlines()) for name in names) < 700


# -- lowering and exporting -----------------------------------------------------------------------------------


def test_a_whole_evaluation_is_lowered_for_tpus(eqr):
    evaluator = Evaluator(*eqr, PLAIN_RUN)
    given = evaluator.sharded.spread((evaluator.puzzles(np.arange(8)), *np.zeros((2, 8), np.int32)))
    exported = jax.export.export(evaluator.program, platforms=("tpu",))(evaluator.parameters, *given)
    assert exported.platforms == ("tpu",) and exported.nr_devices == 8 and "stablehlo" in exported.mlir_module()


def test_an_exported_iteration_is_that_of_pytorch(tmp_path):
    """With the weights and the program on disk, and jax alone."""
    words = [f"dataset_data_path={CHECKPOINTS / 'maze9'}", "forward_dtype=float32", "noise_scale=0"]
    odd = shutil.copy(CHECKPOINTS / "eqr_maze9.pth", tmp_path / "it's = a \\ name.pth")
    assert exit_code(export.main, [str(odd), str(tmp_path / "out"), "--rows=2", *words]) == 0
    ended = subprocess.run([sys.executable, "example.py"], cwd=tmp_path / "out", capture_output=True, text=True)
    assert ended.returncode == 0 and len(ended.stdout.splitlines()) >= 16, ended.stderr
    read = jax.export.deserialize(bytearray((tmp_path / "out" / "iteration.stablehlo").read_bytes()))
    assert read.platforms == ("cpu", "cuda", "tpu")
    weights = load_file(tmp_path / "out" / "weights.safetensors")
    latents = [weights.pop("latents.0"), weights.pop("latents.1")]
    model, puzzles = golden_model("eqr", *words[1:])
    batch = puzzles.rows(np.array([3, 5]))
    numbers = array(batch.inputs), array(batch.puzzle_ids), np.zeros((2, 2), np.uint32)
    _, logits, q_halt = read.call(weights, latents, *numbers)
    [expected] = torch_trajectory(model, batch, 1, latents=tuple(torch.from_numpy(z.copy()) for z in latents))
    assert relative_error(tensor(logits), expected.readout.logits) < 1e-5
    assert relative_error(tensor(q_halt), expected.readout.q_halt) < 1e-5


def test_the_shipped_model_solves_a_hard_sudoku(tmp_path, monkeypatch):
    monkeypatch.setattr(xla.engine, "devices_of", lambda _: jax.devices()[:1])
    tokens = [np.array([[int(c) + 1 if c != "." else 1 for c in text]], np.uint8) for text in (QUESTION, ANSWER)]
    split = puzzle_split(*tokens, vocab_size=11)
    write_dataset(tmp_path / "one", {"train": split, "test": split}, ["<blank>"])
    words = [f"checkpoint={ROOT / 'checkpoints' / 'sudoku'}", f"dataset_data_path={tmp_path / 'one'}"]
    found = Evaluator.load(*words, "halt_max_steps=4", "forward_dtype=float32").evaluate()
    assert found[4]["all/exact_accuracy"] == 1


def test_the_benchmark_measures_and_writes(tmp_path):
    words = ["quickstart", "--rows=2", "--devices=1", "--engines=xla", f"--output={tmp_path}"]
    ended = command("-m", "benchmarks.xla", *words, XLA_FLAGS=os.environ["XLA_FLAGS"])
    assert ended.returncode == 0 and "| `quickstart` | xla | 1 | 2 | " in ended.stdout, ended.stderr
    [case] = json.loads((tmp_path / "xla.json").read_text())["cases"]
    assert case["iteration ms"] > 0 and "failed" not in case
