"""Runs torchrun without its log and traceback: a process that fails says itself what is wrong.

It takes torchrun's words. Exit code: 0, the exit code of the process that failed first, or 128 + a signal's number.
"""

import logging
import os
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def launch(words: list[str]) -> int:
    """Runs torchrun. Says which signal ended a process, since that process could not say so itself."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun would, with a warning
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "300")  # seconds to end a step and save (torch >= 2.13)
    logging.disable(logging.ERROR)
    try:
        main(words)
    except SignalException as stopped:
        return 128 + stopped.sigval
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        if failure.exitcode > 0:
            return failure.exitcode
        print(f"error: process {rank} was ended by {failure.signal_name()}", file=sys.stderr)
        return 128 - failure.exitcode
    return 0


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
