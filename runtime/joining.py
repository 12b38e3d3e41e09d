"""How processes that were started together find each other, whoever started them: torchrun, a scheduler or a hand."""

import ctypes
import os
import signal
import sys
import time
import uuid
from datetime import timedelta

from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from config.environment import whole_number

TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""How many tasks srun or mpirun has started. They do not say it as torchrun does, in WORLD_SIZE."""
JOIN_SECONDS = 40
"""Seconds that processes wait for each other, unless the variable of this name says else."""


def place() -> tuple[int, int]:
    """(rank, size): this process's number among all processes, and how many they are. (0, 1) for one alone.

    Raises:
        ValueError: srun or mpirun has started several tasks that know nothing of each other, or RANK is missing or
            no number.
    """
    size = os.environ.get("WORLD_SIZE")
    if size is None:
        for name in TASKS:
            if os.environ.get(name, "1") != "1":
                raise ValueError(
                    f"{name}={os.environ[name]} tasks would each do the whole work: start one with scripts/*.sh, "
                    "NPROC_PER_NODE and NNODES (docs/clusters.md), or give WORLD_SIZE=1 if each should work alone"
                )
        return 0, 1
    if "RANK" not in os.environ and size != "1":
        raise ValueError(f"WORLD_SIZE={size} is set, but RANK, this process's number, is not")
    return whole_number("RANK", 0, 0), whole_number("WORLD_SIZE", 1)


def watched() -> bool:
    """Whether torchrun's agent watches over this process, and passes its signals on."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def end_with_parent() -> None:
    """Asks for a SIGTERM when the process that started this one ends, so that no orphan goes on. Linux alone has it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG


def join(rank: int, size: int) -> tuple[int, dist.Store, dist.Store]:
    """Waits until all processes are there, and returns (rank, meeting, store).

    The new rank follows NODE_RANK, where it is set: the first process of host 0 is the main one. `store` is of these
    processes alone. `meeting` is the store in which they met. torchrun keeps it when it starts processes again.

    Raises:
        ConnectionError: one has not come within JOIN_SECONDS.
        ValueError: JOIN_SECONDS or NODE_RANK is no number.
        RuntimeError: the store cannot be reached.
    """
    seconds = whole_number("JOIN_SECONDS", 1, JOIN_SECONDS)
    patience = timedelta(seconds=seconds)
    meeting = next(iter(rendezvous("env://", timeout=patience)))[0]
    me = (whole_number("NODE_RANK", 0, 0), rank)
    number, name = _agree(meeting, me, size, seconds)
    os.environ["RANK"] = str(number)
    meeting.set_timeout(timedelta(minutes=30))  # PyTorch's own
    return number, meeting, dist.PrefixStore(name, meeting)


def _agree(store: dist.Store, me: tuple[int, int], size: int, seconds: float) -> tuple[int, str]:
    """(new rank, a name that no earlier attempt has used). What earlier attempts left in the store counts for nothing.

    Every process leaves a call with a number of its own. The first process answers all calls that it finds with the
    attempt's name, again and again, until every process of now has confirmed its answer.
    """
    call = uuid.uuid4().hex
    if me[1]:
        store.set(f"call/{me[1]}", call)
        try:
            name = store.get(f"answer/{call}").decode()
        except dist.DistStoreError:
            raise ConnectionError(f"the first process has not come within {seconds:g} s") from None
        store.set(f"{name}/{me[1]}", str(me[0]))
    else:
        name, end = call, time.monotonic() + seconds
        missing = set(range(1, size))
        while missing:
            for rank in missing:
                if store.check([f"call/{rank}"]):
                    store.set(f"answer/{store.get(f'call/{rank}').decode()}", name)
            time.sleep(0.02)
            missing = {rank for rank in missing if not store.check([f"{name}/{rank}"])}
            if missing and time.monotonic() > end:
                listed = ", ".join(map(str, sorted(missing)[:5]))
                raise ConnectionError(f"of {size} processes {listed} did not come within {seconds:g} s")
        store.set(f"{name}/0", str(me[0]))
    places = sorted((int(store.get(f"{name}/{rank}")), rank) for rank in range(size))
    return places.index(me), name
