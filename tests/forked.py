"""Programs in processes of their own, forked from a server that has imported what they need: 3 s less each.

They are as `python FILE ...` would be in a terminal, but for what happens while torch is imported.
"""

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ["pretrain", "evaluate", "solve", "solving.solver", "evaluation.drawing.page"]
IMPORTED = ["forked", *PROGRAMS, "torch._dynamo", "torch.distributed.run"]


@cache
def server() -> ForkServerContext:
    """Starts the server, which lives as long as this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()
    return context


def _main(program: str, words: list[str], environment: dict[str, str], folder: str, files: list[Path]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, file in enumerate(files):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    sys.stdin = open(0, closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    sys.argv = [program, *words]
    if program == "-m":
        runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")


class Running:
    """`python WORDS` in several processes, as torchrun starts them; they have `given` as their standard input."""

    def __init__(
        self, *words: str, processes: int = 1, environment: Mapping[str, str] = os.environ, given: str = ""
    ) -> None:
        self.words, self.folder = words, tempfile.TemporaryDirectory()
        (given_file := Path(self.folder.name, "given")).write_text(given)
        outputs = [(f"{rank}.out", f"{rank}.err") for rank in range(processes)]
        self.outputs = [[Path(self.folder.name, name) for name in names] for names in outputs]
        self.processes = []
        for files, ranks in zip(self.outputs, _ranks(processes), strict=True):
            arguments = (words[0], list(words[1:]), {**environment, **ranks}, os.getcwd(), [given_file, *files])
            self.processes.append(server().Process(target=_main, args=arguments, daemon=True))
            self.processes[-1].start()

    def send_signal(self, number: int) -> None:
        for process in self.processes:
            os.kill(process.pid, number)

    def end(self) -> subprocess.CompletedProcess[str]:
        """Waits for all. The exit code is that of the first that failed; it ends the others, as with torchrun."""
        running, code = {process.sentinel: process for process in self.processes}, 0
        while running:
            ended = connection.wait(list(running), timeout=15 if code else 300)
            for process in running.values() if not ended else ():
                process.kill()
            assert ended or code, f"{self.words} took more than 300 s"
            for sentinel in ended:
                process = running.pop(sentinel)
                process.join()
                for other in running.values() if process.exitcode and not code else ():
                    other.terminate()
                code = code or (process.exitcode if process.exitcode >= 0 else 128 - process.exitcode)
        out, err = ("".join(file.read_text() for file in column) for column in zip(*self.outputs, strict=True))
        self.folder.cleanup()
        return subprocess.CompletedProcess(self.words, code, out, err)


def free_port() -> str:
    """The number of a port of this machine that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def _ranks(processes: int) -> list[dict[str, str]]:
    """The variables that tell each of several processes its place."""
    if processes == 1:
        return [{}]
    group = {"MASTER_ADDR": "localhost", "MASTER_PORT": free_port(), "WORLD_SIZE": str(processes)}
    return [group | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
