"""Weights & Biases: used by who is logged in, and never the end of a training."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT

from config.load import load_pretrain
from training.wandb_log import WandbLog, wandb_mode

KEY = "a" * 40


BUCKET = {
    "id": "1",
    "name": "run",
    "displayName": "run",
    "config": "{}",
    "historyLineCount": 0,
    "eventsLineCount": 0,
    "logLineCount": 0,
    "project": {"id": "1", "name": "EqR", "entity": {"id": "1", "name": "me"}},
}
ANSWER = {
    "viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}},
    "serverInfo": {"cliVersionInfo": {}},
    "model": {"bucket": None},
    "upsertBucket": {"bucket": BUCKET, "inserted": True},
}
"""What a server says that knows the user and has no run of that name."""


class Answers(BaseHTTPRequestHandler):
    """A server. It does not know the key, or takes a run and then says nothing to its numbers."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        gone = self.server.gone  # type: ignore[attr-defined]
        if gone is not None and "file_stream" in self.path:
            gone.wait()
        body = b"" if gone is None else json.dumps({"data": ANSWER}).encode()
        self.send_response(401 if gone is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(gone: threading.Event | None) -> Iterator[str]:
    """The address of a server that takes runs, and is silent to their numbers until the event; None: takes none."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    http.gone = gone  # type: ignore[attr-defined]
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{http.server_address[1]}"
    if gone is not None:
        gone.set()
    http.shutdown()
    http.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of one that does not know the key."""
    with serving(None) as address:
        yield address


USE = """
import sys
from pathlib import Path
from config.load import load_pretrain
from training.wandb_log import WandbLog
log = WandbLog(Path(sys.argv[1]), load_pretrain(["train=eqr_sudoku"]))
log.write(1, {"loss": 1.0})
print("used" if log._run else "not used", file=sys.stderr)
log.close()
"""


def use(home: Path, settings: str = "", key_for: str = "", **environment: str) -> list[str]:
    """What a run says of W&B whose user has these settings and this key."""
    (home / ".config" / "wandb").mkdir(parents=True)
    (home / ".config" / "wandb" / "settings").write_text(f"[default]\n{settings}\n")
    (home / ".netrc").write_text(f"machine {key_for}\n  login user\n  password {KEY}\n" if key_for else "")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "NETRC", "XDG"))}
    ours = {"HOME": str(home), "PYTHONPATH": str(ROOT), "WANDB_INIT_TIMEOUT": "5"}
    words = [sys.executable, "-c", USE, str(home)]
    done = subprocess.run(words, env=kept | ours | environment, capture_output=True, text=True, timeout=120, cwd=home)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith(("W&B", "used", "not used"))]


@pytest.mark.parametrize("how", ["WANDB_API_KEY", "netrc"])
def test_a_refused_key_is_a_line_and_the_run_is_kept(how, server, tmp_path):
    """With the installed wandb. The second is a user after `wandb login --host`."""
    if how == "netrc":
        said = use(tmp_path, f"base_url = {server}", key_for=server.removeprefix("http://"))
    else:
        said = use(tmp_path, WANDB_MODE="online", WANDB_BASE_URL=server, WANDB_API_KEY=KEY)
    assert len(said) == 2 and said[1] == "used" and list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert said[0].startswith("W&B cannot be used (") and said[0].endswith("): logging offline")
    assert "401" in said[0] or server in said[0]


def test_a_server_that_is_gone_at_the_end_is_a_line(tmp_path):
    with serving(threading.Event()) as address:
        said = use(tmp_path, WANDB_BASE_URL=address, WANDB_API_KEY=KEY, WANDB_FINISH_TIMEOUT="1")
    assert said[0] == "used" and said[1].startswith("W&B cannot be used (") and "metrics.jsonl has all" in said[1]
    assert len(said) == 2 and list(tmp_path.glob("wandb/run-*/*.wandb")), "for `wandb sync`"


def test_a_key_of_another_server_is_not_used(server, tmp_path):
    assert use(tmp_path, f"base_url = {server}", key_for="another.server") == ["not used"]


def test_wandb_offline_is_heeded(tmp_path):
    assert use(tmp_path, "mode = offline", WANDB_API_KEY=KEY) == ["used"]


class Broken:
    """Stands for the wandb package: what is named in `broken` raises an error of a kind that nobody expects."""

    def __init__(self, *broken: str, logged_in: bool = True) -> None:
        self.broken, self.logged_in, self.modes, self.logged = broken, logged_in, list[str](), list[int]()

    def _do(self, what: str) -> None:
        if what in self.broken:
            raise RuntimeError(f"no {what}\nat all")

    def setup(self) -> Any:
        return SimpleNamespace(settings=SimpleNamespace(mode="online"))

    def teardown(self) -> None:
        self._do("teardown")

    def login(self, prompt: bool) -> bool:
        self._do("login")
        assert not prompt
        return self.logged_in

    def init(self, mode: str, **_: Any) -> Any:
        self._do(mode)
        self.modes.append(mode)
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self._do(f"log {step}")
        self.logged.append(step)

    def finish(self) -> None:
        self._do("finish")


@pytest.mark.parametrize(
    "broken, modes, logged, lines",
    [
        ([], ["online"], [1, 2], []),
        (["login"], ["offline"], [1, 2], ["(no login at all): logging offline"]),
        (["online"], ["offline"], [1, 2], ["(no online at all): logging offline"]),
        (["online", "teardown"], ["offline"], [1, 2], ["(no online at all): logging offline"]),
        (["online", "offline"], [], [], ["logging offline", "(no offline at all): only metrics.jsonl has the numbers"]),
        (["log 2"], ["online"], [1], ["(no log 2 at all): from here on only metrics.jsonl has the numbers"]),
        (["finish"], ["online"], [1, 2], ["the run's folder"]),
    ],
)
def test_whatever_breaks_is_a_line(broken, modes, logged, lines, tmp_path, monkeypatch, capsys):
    wandb = Broken(*broken)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    log = WandbLog(tmp_path, load_pretrain(["train=eqr_sudoku"]))
    for step in (1, 2):
        log.write(step, {"loss": 1.0})
    log.close()
    said = capsys.readouterr().err.splitlines()
    assert (wandb.modes, wandb.logged, len(said)) == (modes, logged, len(lines))
    assert all(
        one.startswith("W&B cannot be used (") and one.endswith(end) for one, end in zip(said, lines, strict=True)
    )


def test_who_is_not_logged_in_hears_nothing(tmp_path, monkeypatch, capsys):
    wandb = Broken(logged_in=False)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    WandbLog(tmp_path, load_pretrain(["train=eqr_sudoku"])).close()
    assert wandb.modes == [] and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words, environment, mode",
    [
        ([], {}, "auto"),
        ([], {"WANDB_MODE": "dryrun"}, "offline"),
        ([], {"WANDB_MODE": "online", "WANDB_DISABLED": "true"}, "disabled"),
        (["wandb_mode=online"], {"WANDB_MODE": "disabled"}, "online"),
    ],
)
def test_the_configuration_decides_before_the_environment(words, environment, mode, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wandb_mode(load_pretrain(["train=eqr_sudoku", *words])) == mode
