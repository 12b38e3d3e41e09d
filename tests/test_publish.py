"""reproduction/publish.py: what is published of a checkpoint, and how it comes back from the hub."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, exit_code
from hub import library_asks, serving

from config.schema import PretrainConfig
from reproduction import publish
from reproduction.records import portable, read_record
from runtime import checkpoint
from runtime.load import load_model
from solving import OnnxSolver

SMALL = ROOT / "checkpoints" / "maze_unique_small"


def test_a_dry_run_writes_what_comes_back_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new" / "dry"
    words = [str(SMALL), "--repo", "me/small", "--dry-run", str(folder)]
    assert exit_code(publish.main, words) == 0
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert files.keys() == {"README.md", "config.yaml", "last.onnx", "last.safetensors"}
    OnnxSolver.load(str(folder))
    assert list(folder.parent.iterdir()) == [folder], "nothing else is left"
    saved = checkpoint.load(SMALL)
    assert PretrainConfig.model_validate(yaml.safe_load(files["config.yaml"])) == portable(saved.config)
    with serving({"models/me/small": files}) as hub:
        library_asks(hub, tmp_path / "cache", monkeypatch)
        loaded, shipped = load_model("hf://me/small"), load_model(str(SMALL))
    assert all(torch.equal(t, loaded.weights[name]) for name, t in shipped.weights.items())
    assert exit_code(publish.main, words) == 1, "the folder is there already"


def test_the_card_has_the_records_numbers() -> None:
    record = read_record(ROOT / "results" / "runs" / "maze_unique_small.json")
    text = publish.card(checkpoint.load(SMALL), "me/small", publish.read_records())
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == "apache-2.0"
    assert f"`{record.config.dataset.data_path}`" in text and record.commit in text and "hf://me/small" in text
    rows = [line for line in text.splitlines() if line.startswith(f"| {record.name} |")]
    assert len(rows) == len(record.evaluations) > 1
    assert all(re.search(r"\d ± \d|[(]> ", row) for row in rows), rows
    unknown = publish.card(checkpoint.load(SMALL)._replace(step=7), "me/small", publish.read_records())
    assert "No evaluation of this checkpoint is recorded." in unknown


class Api:
    """Takes the place of the hub's: notes what it is asked."""

    asked: list[object] = []

    def create_repo(self, repo: str, exist_ok: bool) -> None:
        self.asked.append((repo, exist_ok))

    def upload_folder(self, repo_id: str, folder_path: str, commit_message: str) -> str:
        self.asked.append((repo_id, {file.name for file in Path(folder_path).iterdir()}))
        return f"https://hub/{repo_id}/commit/1"


def test_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(SMALL / "last.safetensors", tmp_path)
    monkeypatch.setattr(publish, "HfApi", Api)
    monkeypatch.setattr(publish, "get_token", lambda: "hf_secret")
    assert exit_code(publish.main, [str(tmp_path), "--repo", "me/small"]) == 0
    assert Api.asked == [("me/small", True), ("me/small", {"README.md", "config.yaml", "last.safetensors"})]
    assert capsys.readouterr().out == "https://hub/me/small/commit/1\n"


def test_an_onnx_file_needs_its_exporter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in [name for name in sys.modules if name.startswith("solving.export")]:
        monkeypatch.delitem(sys.modules, name)
    assert exit_code(publish.main, [str(SMALL), "--repo", "me/small", "--dry-run", str(tmp_path / "dry")]) == 1
    assert "to export the ONNX file anew takes onnx: pip install -e '.[export]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([str(SMALL), "--repo", "me/small"], "publishing needs a token of the hub with write access: set HF_TOKEN"),
        ([str(SMALL), "--repo", "small"], "a repository's name should be OWNER/NAME, not 'small'"),
        ([str(SMALL), "--repo", "me/.."], "a repository's name should be OWNER/NAME, not 'me/..'"),
        (["nothing", "--repo", "me/small", "--dry-run", "DRY"], "there is no checkpoint nothing"),
    ],
)
def test_faults_are_one_sentence(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(publish, "get_token", lambda: None)
    monkeypatch.setattr(publish, "HfApi", None)
    words = [str(tmp_path / "DRY") if word == "DRY" else word for word in words]
    assert exit_code(publish.main, words) == 1
    assert capsys.readouterr().err.startswith(f"error: {sentence}") and not list(tmp_path.iterdir())
