"""What not every system has. Windows lacks some signals, locks of files, and ways to open them."""

import os
import signal
from typing import IO, Any

fcntl: Any
try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None


def signals(*names: str) -> tuple[int, ...]:
    """The signals of these names that the system has."""
    return tuple(int(vars(signal)[name]) for name in names if name in vars(signal))


ENDING = signals("SIGINT", "SIGTERM", "SIGHUP")
"""What ends a program."""
SIGPIPE, SIGALRM = 13, 14
PLAIN_FILE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Flags to open a file with: a link is not followed, a pipe is not waited for."""


def lock(file: IO[str]) -> None:
    """Locks a file for as long as it is open; where the system or the file system has no locks, nothing happens.

    Raises:
        BlockingIOError: another process has it locked.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass
