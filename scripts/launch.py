"""Runs torchrun without its log and traceback: a process that fails says itself what is wrong.

It takes torchrun's words. Exit code: 0, the exit code of the process that failed first, or 128 + a signal's number; 1
if the hosts do not find each other. NODE_RANK and JOIN_SECONDS are as docs/clusters.md says.
"""

import logging
import os
import socket
import sys
import time

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # else a host that cannot be reached is a page of addresses

from torch.distributed import DistError  # noqa: E402
from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: E402
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: E402
from torch.distributed.elastic.rendezvous.api import (  # noqa: E402
    RendezvousClosedError,
    RendezvousError,
    RendezvousTimeoutError,
)
from torch.distributed.run import main  # noqa: E402


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


def _meeting(seconds: float) -> list[str]:
    """torchrun's words for how the hosts meet: the first one waits for the others, all of them so many seconds."""
    host, first = os.environ.get("MASTER_ADDR"), os.environ.get("NODE_RANK", "0") == "0"
    # a store that does not answer is given up after a third more than read_timeout
    words = [f"--rdzv-conf=is_host={first},join_timeout={seconds:.0f},read_timeout={seconds * 0.75:.0f}"]
    if "NODE_RANK" in os.environ and host:
        own = host if first else _reach(host, int(os.environ["MASTER_PORT"]), seconds)
        words.append(f"--local-addr={own}")
    return words


def _complain(sentence: str) -> None:
    sys.stderr.write(f"\nerror: {sentence}\n")  # a process may have been drawing its progress bar


def launch(words: list[str]) -> int:
    """Runs torchrun. Says which signal ended a process, since that process could not say so itself."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun would, with a warning
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "300")  # seconds to end a step and save (torch >= 2.13)
    logging.disable(logging.ERROR)
    seconds = float(os.environ.setdefault("JOIN_SECONDS", "40"))
    where = ":".join(os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT")).strip(":") or "this host"
    try:
        main([*_meeting(seconds), *words])
    except SignalException as stopped:
        return 128 + stopped.sigval
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        if failure.exitcode > 0:
            return failure.exitcode
        _complain(f"process {rank} was ended by {failure.signal_name()}")
        return 128 - failure.exitcode
    except RendezvousTimeoutError:
        _complain(f"not all hosts came within {seconds:g} s: each needs the same command, with its own NODE_RANK")
    except RendezvousClosedError:
        _complain("another host has ended the work")
    except (RendezvousError, DistError):
        _complain(f"the process at {where}, where all meet, cannot be reached or has ended")
    except OSError as error:
        _complain(f"host 0 was not there within {seconds:g} s: {where}, where all meet, cannot be reached ({error})")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
