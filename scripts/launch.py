"""torchrun, but without its own log and traceback where a process has said what is wrong, or the run was stopped.

Takes torchrun's words; exit code: 0, that of the process which failed first, or 128 + the number of a signal.
"""

import logging
import os
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def launch(words: list[str]) -> int:
    """Runs torchrun; of a process that could say nothing itself, which signal ended it."""
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
