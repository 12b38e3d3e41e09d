"""solving with onnxruntime: the answers are those of PyTorch, and PyTorch is not imported."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, exit_code
from test_evaluation import AMPLIFYING
from test_export import RELEASED, SMALL, assert_parity, export, facts, session, shape_of
from test_models_golden import GOLDEN, load

import solve
from dataset.boards import Maze
from dataset.puzzles import Batch
from models.layers import truncated_normal
from solving import OnnxSolver, Solver, shipped
from solving.answers import Answering
from solving.draws import Draws
from solving.onnx_session import Graph

NINE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"


@pytest.mark.parametrize("name", ["sudoku", "maze_unique", "maze_unique_small"])
def test_shipped_graphs_are_those_of_the_shipped_models(name):
    """Each reads its weights out of the checkpoint beside it."""
    solver = OnnxSolver.load(ROOT / "checkpoints" / name / "last.onnx")
    model = Solver.load(str(ROOT / "checkpoints" / name), device="cpu").model
    told = facts(solver.graph.session)
    inputs = torch.randint(1, told["vocab_size"], (2, told["seq_len"]), dtype=torch.int32)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        state = model.start(Batch(inputs, inputs, torch.zeros(2, dtype=torch.int32)))
        before = torch.get_rng_state()
        noise = torch.stack([torch.randn_like(state.latents[0]) for _ in range(told["noise"]["draws"])], dim=1)
        torch.set_rng_state(before)
        assert_parity(solver.graph.session, model, state, noise.numpy())


def test_a_graph_is_refused_beside_another_checkpoint(tmp_path):
    for file in (SMALL / "last.onnx", SMALL.parent / "maze_unique" / "last.safetensors"):
        shutil.copy(file, tmp_path)
    with pytest.raises(ValueError, match="was written for another last.safetensors than the one beside it"):
        OnnxSolver.load(tmp_path / "last.onnx")
    (tmp_path / "text.onnx").write_text("no protobuf")
    with pytest.raises(ValueError, match="text.onnx is not an ONNX file that onnxruntime can run: "):
        OnnxSolver.load(tmp_path / "text.onnx")


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_draws_are_those_of_pytorch(seed):
    draws = Draws(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for shape in ((2, 81, 16), (1, 17), (16,)):
            assert draws.truncated_normal(*shape, std=0.5) == pytest.approx(
                truncated_normal(*shape, std=0.5).numpy(), abs=1e-6
            )
            normals = np.stack([torch.randn(shape).numpy() for _ in range(3)], axis=1)
            assert draws.normals(3, *shape) == pytest.approx(normals, abs=1e-6)
        assert (draws.uniform(5) == torch.rand(5).numpy()).all()


@pytest.fixture(scope="module")
def solvers(tmp_path_factory) -> list[Answering]:
    """Both engines with the released model of 9x9 mazes, which answers most of them."""
    file = tmp_path_factory.mktemp("exported") / "maze9.onnx"
    file.write_bytes(export.iteration(str(RELEASED), 81, 6).SerializeToString())
    return [OnnxSolver.load(file), Solver.load(str(RELEASED), 81, 6, device="cpu")]


@pytest.mark.parametrize("breadth, stops", [(1, True), (1, False), (3, True)])
def test_both_engines_give_the_same_answers_to_64_puzzles(breadth, stops, solvers):
    mazes_NS = np.load(RELEASED.parent / "maze9" / "test" / "all__inputs.npy")
    mazes_NS = np.resize(mazes_NS, (64, 81))

    def accept(puzzle_S, answer_S):
        return Maze(9).fault(puzzle_S, answer_S) is None

    theirs, ours = (solver.solve(mazes_NS, 8, breadth, accept=accept if stops else None) for solver in solvers)
    assert len(theirs) == len(ours) == 64 and len({answer.made for answer in ours}) > 1 or not stops
    for number, (a, b) in enumerate(zip(theirs, ours, strict=True)):
        assert (a.tokens_S == b.tokens_S).all()
        assert a[3:6] == b[3:6] and a.made == b.made
        if number in AMPLIFYING["eqr"]:
            continue
        assert (a.residual, a.confidence) == pytest.approx((b.residual, b.confidence), rel=1e-3, nan_ok=True)


def test_solving_imports_no_pytorch(tmp_path):
    """solve.py with a folder in front of Python's path in which torch and other packages cannot be imported."""
    for package in ("torch", "hydra", "safetensors", "matplotlib", "pydantic"):
        (tmp_path / f"{package}.py").write_text("raise ImportError('not here')")
    words = [sys.executable, "solve.py", NINE, "--json"]
    told = subprocess.run(
        words, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(tmp_path)}
    )
    assert told.stderr == "" and json.loads(told.stdout)["engine"] == "onnx"


def test_threads_are_those_of_openmp(monkeypatch):
    """OMP_NUM_THREADS may be a list for nested threads, and OpenMP goes on without what it cannot read."""
    for value in ("1", "2,1", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        OnnxSolver.load(shipped.FOLDER / "maze_unique" / "last.onnx")


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 25])
def test_rows_are_independent_however_cores_share_them(rows, solvers, monkeypatch):
    """Three cores: one or two rows run together; of seven, one is left over; of 25 each core has several slices."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    alone = solvers[0].graph.session
    graph, random = Graph(lambda _: alone), np.random.default_rng(rows)
    given = {
        node.name: random.standard_normal((rows, *node.shape[1:]), np.float32)
        for node in alone.get_inputs()
        if node.type == "tensor(float)"
    }
    given["inputs"] = random.integers(1, 6, (rows, 81), np.int32)
    told = graph.run(given | {"puzzle_ids": np.zeros(rows, np.int32)})
    for row in range(rows):
        one = alone.run(None, {name: array[row : row + 1] for name, array in given.items()})
        for node, output in zip(alone.get_outputs(), one, strict=True):
            assert told[node.name][row] == pytest.approx(output[0], abs=1e-5)


def test_breadth_of_stored_starts():
    """TRM starts from stored vectors, and from random ones if there are several."""
    _, arch, model, state, _ = load(next(path for path in GOLDEN if path.stem == "trm_mlp_t"))
    model.core.H_cycles, model.core.L_cycles = 1, 1
    shape = shape_of(model, state)
    exported = session(export.graph(model, arch, shape))
    theirs, ours = OnnxSolver(Graph(lambda _: exported), facts(exported)), Solver(model.eval(), shape)
    for breadth in (1, 3):
        [a], [b] = (solver.solve(state.inputs[:1].numpy(), depth=4, breadth=breadth) for solver in (theirs, ours))
        assert (a.tokens_S == b.tokens_S).all() and a.start == b.start
        assert a.residual == pytest.approx(b.residual, rel=1e-4)
        assert a.confidence == pytest.approx(b.confidence, rel=1e-4)


def told(capsys, *words: str) -> tuple[int, str, str]:
    return exit_code(solve.main, [NINE, "--json", *words]), *capsys.readouterr()


def test_the_engine_is_chosen(capsys, monkeypatch, tmp_path):
    """onnxruntime where there is no GPU and an ONNX file; else PyTorch; and a sentence where neither can run."""
    assert json.loads(told(capsys, "--depth", "1")[1])["engine"] == "onnx"
    monkeypatch.setattr(shipped, "_has_gpu", lambda: True)
    assert json.loads(told(capsys, "--depth", "1")[1])["engine"] == "torch"
    assert json.loads(told(capsys, "--depth", "1", "--engine", "onnx")[1])["engine"] == "onnx"
    model = str(shipped.FOLDER / "sudoku" / "last.onnx")
    assert json.loads(told(capsys, "--depth", "1", "--checkpoint", model)[1])["engine"] == "onnx"
    code, _, error = told(capsys, "--checkpoint", model, "--engine", "torch")
    assert code == 1 and error.startswith("error: PyTorch does not read ")
    monkeypatch.setattr(shipped, "_installed", lambda package: package == "torch")
    assert json.loads(told(capsys, "--depth", "1")[1])["engine"] == "torch"
    assert "onnxruntime is not installed: pip install -e '.[onnx]'" in told(capsys, "--engine", "onnx")[2]
    monkeypatch.setattr(shipped, "_installed", lambda package: False)
    assert "PyTorch is not installed: pip install -e '.[torch]'" in told(capsys)[2]
    monkeypatch.setattr(shipped, "_installed", lambda package: package == "onnxruntime")
    shutil.copy(shipped.FOLDER / "sudoku" / "last.safetensors", tmp_path / "alone.safetensors")
    code, _, error = told(capsys, "--checkpoint", str(tmp_path))
    assert code == 1 and "alone.onnx, which python -m solving.export writes; PyTorch is not installed" in error
