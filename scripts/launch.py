"""Runs torchrun without its log and traceback: a process that fails says itself what is wrong.

It takes torchrun's words. Exit code: 0, the exit code of the process that failed first, or 128 + a signal's number; 1
if a variable is wrong or the hosts do not find each other. NODE_RANK and JOIN_SECONDS are as docs/clusters.md says.
"""

import logging
import os
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # else a host that cannot be reached is a page of addresses

from torch.distributed import DistError, TCPStore  # noqa: E402
from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: E402
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: E402
from torch.distributed.elastic.rendezvous.api import (  # noqa: E402
    RendezvousClosedError,
    RendezvousError,
    RendezvousTimeoutError,
)
from torch.distributed.run import main  # noqa: E402

from config.command import command  # noqa: E402
from config.environment import whole_number  # noqa: E402
from runtime.joining import JOIN_SECONDS  # noqa: E402

SIOCGIFADDR = 0x8915

SILENCE = 30.0
"""Seconds without a heartbeat after which a host counts as lost."""


def _reach(host: str, port: int, seconds: float) -> str:
    """The address by which the host where all meet reaches this one. Raises OSError if it is not there in time."""
    end = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection((host, port), timeout=max(1.0, end - time.monotonic())) as way:
                return str(way.getsockname()[0])
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(0.5)


def _interface(address: str) -> str | None:
    """The network device of this host that has an address (IPv4, on Linux)."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has no address
                request = struct.pack("256s", name.encode())
                if socket.inet_ntoa(fcntl.ioctl(any_socket, SIOCGIFADDR, request)[20:24]) == address:
                    return name
    return None


def _meeting(seconds: int) -> list[str]:
    """torchrun's words for how the hosts meet: the first one waits for the others, all of them so many seconds.

    Where a host's own name means 127.0.0.1 to itself, as on Debian, gloo would not find the others. So it is told the
    device of the address by which they reach this host.
    """
    host, first = os.environ.get("MASTER_ADDR"), os.environ.get("NODE_RANK", "0") == "0"
    # a store that does not answer is given up after read_timeout, or after up to twice as long
    words = [f"--rdzv-conf=is_host={first},join_timeout={seconds},read_timeout={max(1, seconds // 2)}"]
    if "NODE_RANK" in os.environ and host:
        own = socket.gethostbyname(host) if first else _reach(host, int(os.environ["MASTER_PORT"]), seconds)
        words.append(f"--local-addr={own}")
        if sys.platform == "linux" and (device := _interface(own)):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", device)
    return words


class Heartbeats(threading.Thread):
    """Counts in the store where all meet, and sees there when the counts of other hosts have last moved."""

    def __init__(self, store: TCPStore, mine: int, hosts: int, interval: float = 5.0) -> None:
        super().__init__(daemon=True)
        self._store, self._mine, self._interval = store, mine, interval
        self._counts = {host: 0 for host in range(hosts) if host != mine}
        self._moved: dict[int, float] = {}

    def run(self) -> None:
        """Does so until the process ends, or until the store does not answer."""
        with suppress(DistError):
            while True:
                self._store.add(f"heartbeat/{self._mine}", 1)
                for host, before in self._counts.items():
                    if (count := self._store.add(f"heartbeat/{host}", 0)) != before:
                        self._counts[host], self._moved[host] = count, time.monotonic()
                time.sleep(self._interval)

    def silent(self, seconds: float) -> int | None:
        """The first host that was there and has not been heard of for so long: host 0, if its store is silent."""
        now = time.monotonic()
        return next((host for host, moved in sorted(self._moved.items()) if now - moved > seconds), None)


def _watch() -> None:
    """Kills this host's processes when another host has vanished without a word: they would wait for it for long.

    torchrun then says that they were killed, or starts them again and waits for the other host.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    mine, hosts = int(os.environ["NODE_RANK"]), int(os.environ["NNODES"])
    try:
        heartbeats = Heartbeats(TCPStore(address, port, is_master=False, timeout=timedelta(seconds=60)), mine, hosts)
    except DistError:
        return  # torchrun has found so, too
    heartbeats.start()
    while (host := heartbeats.silent(SILENCE)) is None:
        time.sleep(1)
    _complain(f"host {host} has not been heard of for {SILENCE:g} s")
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGKILL)
    if host == 0:  # torchrun itself waits for its store
        time.sleep(5)
        os._exit(1)


def _complain(sentence: str) -> None:
    sys.stderr.write(f"\nerror: {sentence}\n")  # a process may have been drawing its progress bar


@command()
def launch(words: list[str]) -> int:
    """Runs torchrun. Says which signal ended a process, since that process could not say so itself."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun would, with a warning
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "300")  # seconds to end a step and save (torch >= 2.13)
    logging.disable(logging.ERROR)
    seconds = whole_number("JOIN_SECONDS", 1, JOIN_SECONDS)
    where = ":".join(os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT")).strip(":") or "this host"
    try:
        words = [*_meeting(seconds), *words]
        if int(os.environ.get("NNODES", "1")) > 1:
            threading.Thread(target=_watch, daemon=True).start()
        main(words)
    except SignalException as stopped:
        return 128 + stopped.sigval
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        if failure.exitcode > 0:
            return failure.exitcode
        _complain(f"process {rank} was ended by {failure.signal_name()}")
        return 128 - failure.exitcode
    except RendezvousTimeoutError:
        _complain(f"not all hosts came within {seconds} s: each needs the same command, with its own NODE_RANK")
    except RendezvousClosedError:
        _complain("another host has ended the work")
    except (RendezvousError, DistError):
        _complain(f"the process at {where}, where all meet, cannot be reached or has ended")
    except OSError as error:
        _complain(f"host 0 was not there within {seconds} s: {where}, where all meet, cannot be reached ({error})")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
