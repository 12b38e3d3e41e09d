"""A stand-in for the Hugging Face hub on this machine, which can stall in the middle of a file or answer badly."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret"
HALF = 15 * 2**20


class Hub(ThreadingHTTPServer):
    """Serves `files`; me/secret only to those who have the token. Notes the requests for files' bytes."""

    daemon_threads = True

    def __init__(self, files: dict[str, dict[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = files
        self.requests: list[tuple[str, str | None]] = []  # file, Range
        self.stall: threading.Event | None = None  # where set: send half of a big file, then wait for it
        self.stalled = threading.Event()
        self.described: bytes | None = None  # where set: the answer to what a repository is
        self.commit = COMMIT  # what it says with a file

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.removeprefix("/api").strip("/")
        if not path.startswith(("datasets/", "models/")):
            path = f"models/{path}"  # files of models are addressed without "models/"
        repo, rest = "/".join(path.split("/")[:3]), path.split("/")[3:]
        if repo not in self.server.files:
            self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif repo.endswith("secret") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.reply(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif rest[:1] == ["resolve"]:
            self.send_file("/".join(rest[2:]), self.server.files[repo])
        elif rest[:1] == ["tree"]:
            tree = [
                {"type": "file", "path": name, "size": len(c), "oid": etag(c)}
                for name, c in self.server.files[repo].items()
            ]
            self.reply(200, json.dumps(tree).encode())
        elif self.server.described is not None:
            self.reply(200, self.server.described)
        else:
            files = self.server.files[repo].items()
            self.reply(200, described([{"rfilename": name, "size": len(content)} for name, content in files]))

    def send_file(self, name: str, files: dict[str, bytes]) -> None:
        if name not in files:
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        content, asked = files[name], self.headers.get("Range")
        first = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        headers = {"ETag": f'"{etag(content)}"', "X-Repo-Commit": self.server.commit, "Accept-Ranges": "bytes"}
        if asked:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        if self.command == "GET":
            self.server.requests.append((name, asked))
        self.reply(206 if asked else 200, content[first:], headers)

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.stall is not None and len(body) > HALF:
            self.wfile.write(body[:HALF])
            self.server.stalled.set()
            self.server.stall.wait(60)
            self.close_connection = True
            return
        self.wfile.write(body)


def described(siblings: object = (), sha: object = COMMIT) -> bytes:
    """How a hub describes a repository with these files."""
    return json.dumps({"id": "me/ours", "sha": sha, "siblings": siblings}).encode()


def etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def serving(files: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    """A hub with these files: repository (such as "models/me/eqr"), name, content."""
    server = Hub(files)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def library_asks(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library in this process asks this hub."""
    monkeypatch.setattr("dataset.download.HfApi", partial(HfApi, endpoint=hub.url))
    for fetch in (hf_hub_download, snapshot_download):
        monkeypatch.setattr(f"dataset.download.{fetch.__name__}", partial(fetch, endpoint=hub.url, cache_dir=cache))
