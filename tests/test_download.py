"""Downloads, against a stand-in for the hub on this machine (tests/hub.py)."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from hub import COMMIT, TOKEN, Hub, described, library_asks, serving
from huggingface_hub import HfApi
from test_build_sudoku import GOOD, HEADER

from dataset.download import PATIENCE, fetch_all, fetch_file, parse
from dataset.layout import read_split

BIG = bytes(range(256)) * (24 * 4096)  # 24 MiB: the library writes to disk every 10
CSV = (HEADER + GOOD).encode()
FILES = {
    "datasets/me/data": {"maze/train/all.npy": b"maze", "sudoku/big.npy": BIG, "README.md": b"read me"},
    "datasets/me/csv": {"train.csv": CSV, "test.csv": CSV},
    "models/me/models": {"eqr.pth": b"weights", "trm.pth": b"more weights"},
    "models/me/secret": {"eqr.pth": b"secret weights"},
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(FILES) as server:
        yield server


def environment(hub: Hub, tmp_path: Path, **more: str) -> dict[str, str]:
    ours = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("HF_", "EQR_", "HUGGING", "DATA_", "CKPT_"))
    }
    return kept | ours | {"VIRTUAL_ENV": sys.prefix, "HF_HUB_DISABLE_PROGRESS_BARS": "1"} | more


def download(hub: Hub, tmp_path: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    folders = ["--data-dir", str(tmp_path / "data"), "--ckpt-dir", str(tmp_path / "ckpt")]
    return subprocess.run(
        ["bash", str(ROOT / "scripts/download_artifacts.sh"), *folders, *arguments],
        cwd=tmp_path,
        env=environment(hub, tmp_path, **env),
        capture_output=True,
        text=True,
        timeout=60,
    )


def complaint(stderr: str) -> str:
    """The one sentence about a fault, which follows what the program says it is doing."""
    *doing, said = stderr.splitlines()
    assert all(line.startswith("asking http://127.0.0.1:") for line in doing) and said.startswith("error: "), stderr
    return said


def contents(folder: Path) -> dict[str, bytes]:
    """The files in a folder, without the library's notes."""
    files = [file for file in folder.rglob("*") if file.is_file() and ".cache" not in file.parts]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_data_and_checkpoints(hub: Hub, tmp_path: Path) -> None:
    repos = ["--data-repo", "me/data", "--ckpt-repo", "me/models"]
    patterns = ["--data-pattern", "maze/*", "--data-pattern", "*.md", "--ckpt-pattern", "eqr*"]
    ran = download(hub, tmp_path, "--with-ckpts", *repos, *patterns)
    assert ran.returncode == 0, ran.stderr
    assert contents(tmp_path / "data") == {"maze/train/all.npy": b"maze", "README.md": b"read me"}
    assert contents(tmp_path / "ckpt") == {"eqr.pth": b"weights"}
    fetched = len(hub.requests)
    again = download(hub, tmp_path, "--ckpts-only", EQR_CKPT_REPO="me/models")
    assert again.returncode == 0, again.stderr
    assert contents(tmp_path / "ckpt") == FILES["models/me/models"]
    assert [name for name, _ in hub.requests[fetched:]] == ["trm.pth"]


def test_killed_in_the_middle_of_a_file_and_run_again(hub: Hub, tmp_path: Path) -> None:
    hub.stall = threading.Event()
    command = [sys.executable, "-m", "dataset.download", "--data-repo", "me/data", "--data-dir"]
    first = subprocess.Popen([*command, str(tmp_path / "data")], cwd=ROOT, env=environment(hub, tmp_path))
    assert hub.stalled.wait(60)
    while first.poll() is None and not any(f.stat().st_size for f in tmp_path.rglob("*.incomplete")):
        time.sleep(0.01)
    assert first.poll() is None
    first.kill()
    first.wait()
    hub.stall.set()
    hub.stall = None
    complete = contents(tmp_path / "data")
    assert complete.items() <= FILES["datasets/me/data"].items() and "sudoku/big.npy" not in complete
    asked_before = len(hub.requests)
    second = download(hub, tmp_path, "--data-repo", "me/data")
    assert second.returncode == 0, second.stderr
    assert contents(tmp_path / "data") == FILES["datasets/me/data"]
    assert not {name for name, _ in hub.requests[asked_before:]} & complete.keys()


def test_a_connection_lost_in_the_middle_of_a_file(hub: Hub, tmp_path: Path) -> None:
    hub.stall = threading.Event()
    hub.stall.set()  # no waiting: half of the file is sent, then the connection ends
    arguments = ["--data-repo", "me/data", "--data-pattern", "*/big.npy"]
    ran = download(hub, tmp_path, *arguments)
    if ran.returncode:  # older versions of the library do not ask for the rest at once
        assert ran.returncode == 2 and complaint(ran.stderr).startswith("error: me/data: ")
        assert contents(tmp_path / "data") == {}
    hub.stall = None
    again = download(hub, tmp_path, *arguments)
    assert again.returncode == 0, again.stderr
    assert contents(tmp_path / "data") == {"sudoku/big.npy": BIG}


def test_the_token_is_sent(hub: Hub, tmp_path: Path) -> None:
    arguments = ["--ckpts-only", "--ckpt-repo", "me/secret"]
    refused = download(hub, tmp_path, *arguments)
    assert refused.returncode == 2
    said = complaint(refused.stderr)
    assert said.startswith("error: me/secret: ") and "HF_TOKEN" in said and "HTTP 401" in said
    allowed = download(hub, tmp_path, *arguments, HF_TOKEN=TOKEN)
    assert allowed.returncode == 0, allowed.stderr
    assert contents(tmp_path / "ckpt") == {"eqr.pth": b"secret weights"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data-repo", "me/nothing"], "me/nothing: does not exist on the hub"),
        (["--data-repo", "me/data", "--data-pattern", "arc*"], "me/data: no file matches arc*"),
        (["--data-repo", "not a name"], "not a name"),
        ([], "locuslab/EqR-data: does not exist on the hub"),
        (["--skip-data"], "leaves nothing to download"),
    ],
)
def test_faults_are_one_sentence(hub: Hub, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/old.txt").write_text("with this here the library would only warn")
    ran = download(hub, tmp_path, *arguments)
    assert ran.returncode == 2 and sentence in complaint(ran.stderr)
    assert list(contents(tmp_path / "data")) == ["old.txt"]


def test_no_hub_at_all(hub: Hub, tmp_path: Path) -> None:
    ran = download(hub, tmp_path, "--data-repo", "me/data", HF_ENDPOINT="http://127.0.0.1:9")
    assert ran.returncode == 2
    assert complaint(ran.stderr).startswith("error: me/data: cannot be read from the hub (")


def test_the_released_commands_and_folders(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in EqR's README: `download_artifacts.sh --with-ckpts`, with its variables and --cache-dir."""
    usual = parse(["--with-ckpts"])
    assert (usual.data_repo, usual.ckpt_repo) == ("locuslab/EqR-data", "locuslab/EqR-model")
    assert (usual.data_dir, usual.ckpt_dir) == (ROOT / "data", ROOT / "downloaded_checkpoints")
    theirs = {"DATA_REPO": "me/data", "CKPT_REPO": "me/models", "DATA_DIR": "there/data", "CKPT_DIR": "there/ckpts"}
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EQR_CKPT_DIR", "here")
    changed = parse([])
    assert (changed.data_repo, changed.ckpt_repo) == ("me/data", "me/models")
    assert (changed.data_dir, changed.ckpt_dir) == (Path("there/data"), Path("here"))
    ran = download(hub, tmp_path, "--with-ckpts", "--cache-dir", str(tmp_path / "cache"), **theirs)
    assert ran.returncode == 0, ran.stderr
    assert contents(tmp_path / "data") == FILES["datasets/me/data"]
    assert contents(tmp_path / "ckpt") == FILES["models/me/models"]


def test_a_silent_hub_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would ask for a file five times, a minute each. What it has fetched before is used all the same."""
    asked: list[object] = []
    snapshot = tmp_path / COMMIT
    snapshot.mkdir()
    (snapshot / "train.csv").write_bytes(CSV)

    def silent(_: object, repo: str, timeout: float, **more: object) -> None:
        asked.append((repo, timeout))
        raise TimeoutError("timed out")

    def cached(repo: str, local_files_only: bool, **more: object) -> str:
        assert local_files_only
        return str(snapshot)

    monkeypatch.setattr(HfApi, "dataset_info", silent)
    monkeypatch.setattr("dataset.download.snapshot_download", cached)
    assert fetch_file("me/csv", "train.csv") == snapshot / "train.csv"
    for ask in (lambda: fetch_all("me/csv", "dataset", tmp_path), lambda: fetch_file("me/csv", "test.csv")):
        with pytest.raises(ValueError, match="^me/csv: cannot be read from the hub [(]timed out[)]$"):
            ask()
    assert asked == [("me/csv", PATIENCE)] * 3 and PATIENCE <= 10


@pytest.mark.parametrize(
    "answer",
    [
        described(sha="../../../../../../settings"),
        described(sha=COMMIT + "\n"),
        described(sha=None),
        described([{"size": 1}]),
        described([{"rfilename": 1}]),
        described([{"rfilename": "../../settings.json"}]),
        described([{"rfilename": "/settings.json"}]),
        described(1),
        *(b"[]", b"{}", b"null", b"<html>", b"[" * 100_000, b""),
    ],
)
def test_a_hub_that_answers_as_none_does_is_one_sentence(
    hub: Hub, answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit's name becomes part of a file's name in the library."""
    hub.described = answer
    library_asks(hub, tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=f"^me/data: {hub.url} does not answer as a hub does$"):
        fetch_all("me/data", "dataset", tmp_path / "data")
    assert not list(tmp_path.iterdir())


def test_sudoku_is_built_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dataset.build_sudoku_dataset", "--output-dir", str(tmp_path / "set")]
    ran = subprocess.run([*command, "--source-repo", "me/csv"], cwd=ROOT, env=environment(hub, tmp_path), timeout=60)
    assert ran.returncode == 0
    assert read_split(tmp_path / "set", "train").inputs.shape == (1, 81)
    lacking = subprocess.run(
        [*command, "--source-repo", "me/data"],
        cwd=ROOT,
        env=environment(hub, tmp_path),
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert lacking.returncode == 2
    assert complaint(lacking.stderr).startswith("error: me/data: ")
