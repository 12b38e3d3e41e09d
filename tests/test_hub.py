"""Checkpoints by their addresses on the hub, against a stand-in for it on this machine (tests/hub.py)."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, command, tiny_split
from hub import COMMIT, Hub, described, library_asks, serving
from huggingface_hub import constants
from test_download import environment
from test_released_family import release
from test_solver import write_random

import solving
from config.load import load_eval
from dataset.layout import write_dataset
from dataset.puzzles import PuzzleShape
from runtime.hub import resolve, results_beside
from runtime.load import load_model
from solving import Solver
from training.begin import configure

GOLDEN = ROOT / "tests" / "golden" / "checkpoints"
SMALL = ROOT / "checkpoints" / "maze_unique_small"
FOUR = "2....4.3.......4"
LAST = {"rfilename": "last.safetensors"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Repositories: one of ours, EqR's with two checkpoints, TRM's with a configuration beside bare weights."""
    folder = tmp_path_factory.mktemp("repositories")
    write_random(folder, "quickstart", PuzzleShape(16, 6, 1))
    eqr = (GOLDEN / "eqr_maze9.pth").read_bytes()
    release(folder, "trm", "", SimpleNamespace(shape=PuzzleShape(16, 6, 1)))
    return {
        "models/me/ours": {"README.md": b"a card", "last.safetensors": (folder / "last.safetensors").read_bytes()},
        "models/locuslab/EqR-model": {"maze/eqr.pth": eqr, "sudoku/eqr.pth": eqr, "README.md": b"two"},
        "models/them/trm": {
            "run/step_7": (folder / "step_7").read_bytes(),
            "run/all_config.yaml": (folder / "all_config.yaml").read_bytes(),
        },
        "models/me/maze": {name: (SMALL / name).read_bytes() for name in ("last.safetensors", "last.onnx")},
        "models/me/empty": {"README.md": b"nothing"},
    }


@pytest.fixture
def hub(files: dict[str, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stand-in, which the library in this process asks. Its cache is tmp_path / "cache"."""
    with serving({repo: dict(content) for repo, content in files.items()}) as server:
        library_asks(server, tmp_path / "cache", monkeypatch)
        yield server


def test_from_pretrained(hub: Hub, files: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    (tmp_path / "last.safetensors").write_bytes(files["models/me/ours"]["last.safetensors"])
    by_path = Solver.from_pretrained(str(tmp_path)).solve([FOUR], depth=3)
    for name in ("me/ours", "hf://me/ours", "me/ours/last.safetensors", "me/ours@main", f"me/ours@{COMMIT}"):
        [answer], [same] = Solver.from_pretrained(name).solve([FOUR], depth=3), by_path
        assert answer.text == same.text and answer.residual == same.residual
    assert [name for name, _ in hub.requests] == ["last.safetensors"], "fetched once, and nothing else"


def test_released_repositories(hub: Hub) -> None:
    eqr = load_model("hf://locuslab/EqR-model/maze/eqr.pth")
    trm = load_model("hf://them/trm")
    assert (eqr.arch.name, trm.arch.name, trm.step) == ("eqr", "trm", 7)
    assert load_model("hf://them/trm/run").digest == trm.digest
    assert {name for name, _ in hub.requests} == {"maze/eqr.pth", "run/step_7", "run/all_config.yaml"}


def test_without_a_network_the_cache_answers(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    file, released = resolve("hf://me/ours"), resolve("hf://them/trm")
    asked = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve("hf://me/ours") == resolve("hf://me/ours/last.safetensors@main") == file
    assert resolve("hf://them/trm") == released and len(hub.requests) == asked
    for other in ("hf://me/other", "hf://me/ours@v1"):
        with pytest.raises(ValueError, match="^me/[a-z]*: cannot be read from the hub [(].*offline") as caught:
            resolve(other)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("hf://me", "hf://me should be hf://OWNER/NAME, with /FILE and @REVISION after it if wanted"),
        ("hf://me/../ours", "should be hf://OWNER/NAME"),
        ("hf://me/ours/../x", "should be hf://OWNER/NAME"),
        ("hf://me/ours@../../x", "should be hf://OWNER/NAME"),
        ("hf://me/ours@", "should be hf://OWNER/NAME"),
        ("hf://me/nothing", "me/nothing: does not exist on the hub"),
        ("hf://me/ours/best.safetensors", "me/ours: best.safetensors: there is no checkpoint"),
        ("hf://me/empty", "me/empty: there is no checkpoint; the repository holds README.md"),
        ("hf://locuslab/EqR-model", "several checkpoints: name one, such as hf://locuslab/EqR-model/maze/eqr.pth"),
    ],
)
def test_faults_are_one_sentence(hub: Hub, address: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        resolve(address)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("answer", "commit"),
    [
        (described([LAST], "../../../../out"), COMMIT),
        (described([{"rfilename": "../../out/last.safetensors"}]), COMMIT),
        (described([{"rfilename": "/out/last.safetensors"}]), COMMIT),
        (described([LAST]), "../../../../out"),
        (described([LAST]), "f" * 40),
        (b"<html>", COMMIT),
    ],
    ids=["commit", "name", "absolute name", "commit of a file", "another commit", "no description"],
)
def test_a_hostile_hub_writes_nothing_outside_of_the_cache(
    hub: Hub, answer: bytes, commit: str, tmp_path: Path
) -> None:
    hub.described, hub.commit = answer, commit
    with pytest.raises(ValueError, match="^(me/ours: |Invalid pointer path)") as caught:
        resolve("hf://me/ours")
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"} and not list(tmp_path.rglob("out"))


def test_a_file_that_is_not_complete_is_not_used(hub: Hub) -> None:
    hub.described = described([LAST | {"size": 10**6}])
    with pytest.raises(ValueError, match="^me/ours: last.safetensors is not complete"):
        resolve("hf://me/ours")


def test_solve_and_evaluate_by_address(hub: Hub, tmp_path: Path) -> None:
    """As a user types it."""
    env = environment(hub, tmp_path) | {"PYTHONPATH": str(ROOT)}
    solved = command("solve.py", FOUR, "--checkpoint", "hf://me/ours", "--depth", "2", "--json", **env)
    assert json.loads(solved.stdout)["iterations"] <= 2, solved.stderr
    split = tiny_split(6, 1)
    wide = replace(
        split,
        inputs=np.tile(split.inputs, 2),
        labels=np.tile(split.labels, 2),
        metadata=split.metadata.model_copy(update={"seq_len": 16}),
    )
    write_dataset(tmp_path / "data", {"test": wide}, ["<blank>"])
    words = [f"dataset_data_path={tmp_path / 'data'}", "halt_max_steps=2", "device=cpu", f"eval_dir={tmp_path / 'e'}"]
    evaluated = command("evaluate.py", "checkpoint=hf://me/ours@main", *words, **env)
    assert evaluated.returncode == 0, evaluated.stderr
    assert (tmp_path / "e" / "results.json").is_file()


@pytest.mark.parametrize("address", ["hf://me/maze", "hf://me/maze/last.onnx"])
def test_solve_by_address_without_pytorch(address: str, hub: Hub, tmp_path: Path) -> None:
    """The ONNX file comes with the checkpoint, and the checkpoint with the ONNX file, which has no weights."""
    without = "import runpy, sys; sys.modules['torch'] = None; runpy.run_path('solve.py', run_name='__main__')"
    words = ["docs/maze.txt", "--checkpoint", address, "--depth", "1", "--json"]
    env = os.environ | environment(hub, tmp_path) | {"PYTHONPATH": str(ROOT)}
    solved = subprocess.run([sys.executable, "-c", without, *words], capture_output=True, text=True, cwd=ROOT, env=env)
    assert json.loads(solved.stdout)["engine"] == "onnx", solved.stderr
    assert sorted(name for name, _ in hub.requests) == ["last.onnx", "last.safetensors"]


def test_from_pretrained_without_pytorch(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    solver = solving.Solver.from_pretrained("me/maze")
    assert isinstance(solver, solving.OnnxSolver)
    maze = (ROOT / "docs" / "maze.txt").read_text()
    [answer] = solver.solve([maze], depth=1)
    monkeypatch.undo()
    [same] = Solver.load(str(SMALL), device="cpu").solve([maze], depth=1)
    assert answer.text == same.text


def test_results_go_beside_a_file_but_not_into_the_cache() -> None:
    assert results_beside("a/b.pth", Path("a/b.pth")) == Path("a/b.pth")
    assert results_beside("hf://me/ours/x@v1", Path("cache/b.pth")) == Path("outputs/me/ours/b.pth")


def test_no_run_goes_on_in_the_cache() -> None:
    with pytest.raises(ValueError, match="load_checkpoint=hf://me/ours starts a new one$"):
        configure(["resume=hf://me/ours"])


def test_an_address_needs_no_quotes() -> None:
    assert load_eval([f"checkpoint=hf://me/ours/a.pth@{COMMIT}"]).checkpoint == f"hf://me/ours/a.pth@{COMMIT}"
