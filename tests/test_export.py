"""The ONNX file of an outer iteration: parity with PyTorch, precisions, metadata, refusals."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, exit_code
from test_models_golden import GOLDEN, load, relative_error

from config.architectures import Arch, EqRArch, FeedforwardArch
from dataset.boards import Maze
from dataset.puzzles import Batch, PuzzleShape
from models.build import build
from models.core import RandomInit
from models.reasoner import Reasoner, State
from solving import Solver

onnxruntime = pytest.importorskip("onnxruntime")
export = pytest.importorskip("solving.export", reason="needs the packages onnx and onnxscript")
onnx_attention = pytest.importorskip("solving.onnx_attention")

RELEASED = ROOT / "tests" / "golden" / "checkpoints" / "eqr_maze9.pth"
SMALL = ROOT / "checkpoints" / "maze_unique_small"
ONE_OF_EACH = ["eqr_attention_rope2d", "trm_puzzle_emb_mlp_t", "hrm_learned_softmaxshape"]


def session(proto_or_file):
    given = str(proto_or_file) if isinstance(proto_or_file, Path) else proto_or_file.SerializeToString()
    return onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"])


def facts(session) -> dict:
    return {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}


def outputs(session, state: State, noise: np.ndarray | None = None) -> dict:
    """What the graph makes of a state."""
    names = [latent["name"] for latent in facts(session)["latents"]]
    given = {"inputs": state.inputs.numpy(), "puzzle_ids": state.puzzle_ids.numpy(), "noise": noise}
    given |= {name: z.numpy() for name, z in zip(names, state.latents, strict=True)}
    found = session.run(None, {node.name: given[node.name] for node in session.get_inputs()})
    return dict(zip([node.name for node in session.get_outputs()], map(torch.from_numpy, found), strict=True))


def assert_parity(session, model: Reasoner, state: State, noise: np.ndarray | None = None) -> State:
    """Compares one outer iteration in both. Returns the state after it."""
    found = outputs(session, state, noise)
    with torch.no_grad():
        state, readout = model.eval().iterate(state)
    for name, output in found.items():
        latent = {
            f"next_{latent['name']}": z for latent, z in zip(facts(session)["latents"], state.latents, strict=True)
        }
        assert relative_error(output, (latent | readout._asdict())[name]) < 1e-5, name
    return state


def shape_of(model: Reasoner, state: State) -> PuzzleShape:
    return PuzzleShape(state.inputs.shape[1], len(model.embed_tokens.embedding_weight), 1)


@pytest.mark.parametrize("name", [path.stem for path in GOLDEN] if os.environ.get("ALL_EXPORTS") else ONE_OF_EACH)
def test_golden_models_agree_with_pytorch(name):
    """HRM with one cycle, which has all its parts: the exporter takes a second for each. ALL_EXPORTS=1 tries all 13."""
    _, arch, model, state, _ = load(next(path for path in GOLDEN if path.stem == name))
    if arch.name == "hrm":
        model.core.H_cycles, model.core.L_cycles = 1, 1
    exported = session(export.graph(model, arch, shape_of(model, state)))
    for _ in range(2):
        state = assert_parity(exported, model, state)


def test_long_rows_attend_in_blocks(monkeypatch):
    """Two heads, nine queries two at a time: ten blocks, the last of a head smaller."""
    _, arch, model, state, _ = load(next(path for path in GOLDEN if path.stem == "eqr_attention_rope2d"))
    monkeypatch.setattr(onnx_attention, "_SCORES", 18)
    proto = export.graph(model, arch, shape_of(model, state))
    [loop] = [node.attribute[0].g for node in proto.graph.node if node.op_type == "Loop"]
    assert [node.op_type for node in loop.node].count("Softmax") == 10 * arch.L_layers
    assert_parity(session(proto), model, state)


def started(arch: Arch, shape: PuzzleShape) -> tuple[Reasoner, State]:
    """A model with random weights, and its state before the first iteration of three puzzles."""
    torch.manual_seed(0)
    model = build(arch, shape)
    inputs = torch.randint(0, shape.vocab_size, (3, shape.seq_len), dtype=torch.int32)
    return model, model.start(Batch(inputs, inputs, torch.zeros(3, dtype=torch.int32)))


FEEDFORWARD = FeedforwardArch(name="feedforward", hidden_size=32, num_heads=2, L_layers=1, forward_dtype="float32")


def test_the_feedforward_model_has_one_latent():
    model, state = started(FEEDFORWARD, PuzzleShape(16, 6, 1))
    exported = session(export.graph(model, FEEDFORWARD, PuzzleShape(16, 6, 1)))
    assert [node.name for node in exported.get_outputs()] == ["next_z", "logits", "q_halt"]
    assert facts(exported)["latents"] == [{"name": "z", "shape": [16, 32], "values": [0.0]}]
    assert_parity(exported, model, state)
    model.core.start = RandomInit((0.5,), 16, 32, torch.float32)
    exported = session(export.graph(model, FEEDFORWARD, PuzzleShape(16, 6, 1)))
    assert facts(exported)["latents"] == [{"name": "z", "shape": [16, 32], "std": 0.5}]


def test_a_model_whose_latents_have_no_names_is_refused():
    model, _ = started(FEEDFORWARD, PuzzleShape(16, 6, 1))
    with pytest.raises(ValueError, match="mine cannot be written as ONNX: name its latents in solving/onnx_graph.py"):
        export.graph(model, FEEDFORWARD.model_copy(update={"name": "mine"}), PuzzleShape(16, 6, 1))


def test_noise_that_would_stay_in_the_graph_is_refused():
    arch = EqRArch(name="eqr", hidden_size=32, num_heads=2, L_layers=1, H_cycles=1, L_cycles=1, forward_dtype="float32")
    model, _ = started(arch, PuzzleShape(16, 6, 1))
    model.core.H_level = model.core.L_level
    with pytest.raises(ValueError, match="only if its core is one network"):
        export.graph(model, arch, PuzzleShape(16, 6, 1))
    model.core.H_level, embed = None, model.embed
    model.embed = lambda *inputs: embed(*inputs) + torch.randn(16, 32)  # noise outside of the core's loop
    with pytest.raises(ValueError, match="only if its core is one network"):
        export.graph(model, arch, PuzzleShape(16, 6, 1))


@pytest.mark.parametrize("error, why", [(AssertionError(), "AssertionError"), (RuntimeError("one\ntwo"), "one")])
def test_why_a_model_cannot_be_exported_is_one_sentence(error, why):
    model, _ = started(FEEDFORWARD, PuzzleShape(16, 6, 1))

    def fail(*_):
        raise error

    model.embed = fail
    with pytest.raises(ValueError, match=f"^feedforward cannot be written as ONNX: {why}$"):
        export.graph(model, FEEDFORWARD, PuzzleShape(16, 6, 1))


def test_recurrent_units_agree_with_pytorch():
    """On three positions, since the graph has all of them one after the other."""
    arch = load(next(path for path in GOLDEN if path.stem == "hrm_sru"))[1]
    model, state = started(arch, PuzzleShape(3, 6, 1))
    exported = session(export.graph(model, arch, PuzzleShape(3, 6, 1)))
    for _ in range(2):
        state = assert_parity(exported, model, state)


def test_the_page_solves_a_sudoku_with_onnxruntime_alone(tmp_path, monkeypatch, capsys):
    [program] = re.findall(r"^```python\n(import json.*?)^```$", (ROOT / "docs" / "onnx.md").read_text(), re.M | re.S)
    file = tmp_path / "sudoku.onnx"
    file.write_bytes(export.iteration(str(ROOT / "checkpoints" / "sudoku")).SerializeToString())
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "docs/onnx.md", "exec"), {})
    answers = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 16 and len(set(answers)) > 1
    assert answers[-1] == "812753649943682175675491283154237896369845721287169534521974368438526917796318452"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """The small maze model in every precision."""
    folder, proto = tmp_path_factory.mktemp("exported"), export.iteration(str(SMALL))
    files = {precision: folder / f"{precision}.onnx" for precision in export.PRECISIONS}
    for precision, file in files.items():
        file.write_bytes(export.in_precision(proto, precision).SerializeToString())
    return files


def test_what_a_foreign_runtime_needs_stands_in_the_file(files):
    for file in files.values():
        told = facts(session(file))
        assert told.pop("version")
        assert told == {
            "format": "eqr-onnx-1",
            "model": "eqr",
            "task": "maze",
            "board": [30, 30],
            "vocabulary": ["?", "#", " ", "S", "G", "o"],
            "seq_len": 900,
            "vocab_size": 6,
            "depth": 16,
            "latents": [{"name": name, "shape": [900, 44], "std": 1.0} for name in ("z_H", "z_L")],
            "noise": {"draws": 15, "std": 0.1},
            "halting": {"learned": True, "above": 0.0},
        }


def test_precisions_solve_the_same_mazes(files):
    """With the noise of PyTorch. The weights are bfloat16's, which float16 holds exactly unless they are tiny."""
    puzzle_S = Maze(30).tokens((ROOT / "docs" / "maze.txt").read_text().replace("\n", ""))
    inputs = torch.from_numpy(np.stack([puzzle_S, puzzle_S.reshape(30, 30).T.reshape(-1)]))
    model = Solver.load(str(SMALL), device="cpu").model
    batch = Batch(inputs, inputs, torch.zeros(2, dtype=torch.int32))
    sizes = {precision: file.stat().st_size for precision, file in files.items()}
    assert sizes["float16"] < 0.65 * sizes["float32"] and sizes["int8"] < 0.9 * sizes["float16"]
    for precision, file in files.items():
        exported = session(file)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            state = model.start(batch)
            for _ in range(10):
                noise = torch.stack([torch.randn(2, 900, 44) for _ in range(15)], dim=1)
                found = outputs(exported, state, noise.numpy())
                state = state._replace(latents=(found["next_z_H"], found["next_z_L"]))
        for puzzle_S, answer_S in zip(inputs.numpy(), found["logits"].argmax(-1).numpy(), strict=True):
            assert Maze(30).fault(puzzle_S, answer_S) is None, precision


def test_noise_is_what_pytorch_draws(files):
    model = Solver.load(str(SMALL), device="cpu").model
    inputs = torch.randint(1, 6, (2, 900), dtype=torch.int32)
    state = model.start(Batch(inputs, inputs, torch.zeros(2, dtype=torch.int32)))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        noise = torch.stack([torch.randn(2, 900, 44) for _ in range(15)], dim=1)
        torch.manual_seed(1)
        assert_parity(session(files["float32"]), model, state, noise.numpy())


def test_a_folder_that_is_read_only_is_named_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    assert exit_code(export.main, [str(SMALL), str(tmp_path / "model.onnx")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/model.onnx cannot be written: its folder is read-only\n"


def test_mistakes_are_one_sentence(tmp_path, capsys):
    for words, sentence in (
        ([str(SMALL), str(tmp_path / "model.pt")], "should be a file to write, its name ending in .onnx"),
        ([str(tmp_path), str(tmp_path / "model.onnx")], "there is no checkpoint"),
        ([str(RELEASED), str(tmp_path / "model.onnx")], "does not say what it was trained on"),
    ):
        assert exit_code(export.main, words) == 1
        assert sentence in capsys.readouterr().err and not list(tmp_path.iterdir())
