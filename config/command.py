"""How a command line ends: what it says about a mistake, and its exit code.

| what ended it | exit code | on stderr |
| --- | ---: | --- |
| nothing | 0, or what the program says | |
| a mistake: ValueError, OSError, MemoryError | 1; of a builder 2 | error: one sentence |
| a wrong option, found by argparse | 2 | how to use the program |
| signal N | 128 + N | |
| the reader of its output went away, as `head` does | 141; of solve.py 0 | |

Every program's `main` is decorated with `command()`, or with `runtime.command.computing(...)` where it computes.
"""

import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from config.system import ENDING, SIGPIPE

_OTHERS_FIRST = 6.0  # seconds, since a busy machine takes some to end a process


@contextmanager
def command(mistake: int = 1, unread: int = 128 + SIGPIPE) -> Iterator[None]:
    """Ends a command line as the table says; for `with`, or to decorate a main function.

    Args:
        mistake: the exit code of a mistake.
        unread: the exit code after the reader of the output went away.

    Raises:
        SystemExit: what ended the block was an exception of the table.
    """
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # None: closed
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":  # its encoding may have no ±
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):  # so that Python says nothing when it flushes them at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(unread)
    except (ValueError, OSError, MemoryError) as error:
        _complain(error)
        sys.exit(mistake)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _complain(mistake: Exception) -> None:
    """Writes the mistake to stderr, on a line of its own, once for all processes.

    All processes but the main one wait first: they mostly have the same to say. So does a process that lost another
    one, since that one knows why. Meanwhile torchrun ends them.
    """
    rank = os.environ.get("RANK")
    if rank is not None and (rank != "0" or isinstance(mistake, ConnectionError)):
        time.sleep(_OTHERS_FIRST)
        sys.stderr.write("\n")  # the main process may be drawing its progress bar
    sys.stderr.write(f"error: {printable(str(mistake)) or 'out of memory'}\n")


def printable(text: str) -> str:
    """A line that others may have written, for a terminal: what a terminal obeys instead of showing stands escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_lines(text: str) -> None:
    """Prints lines with words that others may have written (`printable`)."""
    print("\n".join(map(printable, text.split("\n"))))


@contextmanager
def unwinding() -> Iterator[None]:
    """Lets SIGINT, SIGTERM and SIGHUP unwind the block, so that its cleanup runs. A signal that is ignored stays so.

    Raises:
        SystemExit: one of them came; the exit code is 128 + its number.
    """

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    handlers = {number: signal.getsignal(number) for number in ENDING if signal.getsignal(number) != signal.SIG_IGN}
    for number in handlers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
