"""The processes and devices of an evaluation in XLA, on JAX's own distributed runtime: a process for each host.

Hosts share the units of work. They exchange finished parts and a few words through the coordinator, and no arrays: a
host may be slow, and devices never wait for another host's.
"""

import itertools
import os
import pickle
import re
from typing import Any

import jax
import torch

from config.environment import whole_number
from runtime.distributed import World

_PATIENCE = 30 * 24 * 3600 * 1000  # milliseconds that a host waits for the others
_PIECE = 2**20  # bytes of a message


class Hosts(World):
    """This process among those of JAX's distributed runtime."""

    _numbers = itertools.count()

    def gather_objects(self, value: Any) -> list[Any]:
        """Every process's value, in rank order, in every process."""
        if self.size == 1:
            return [value]
        client, name, mine = _client(), f"eqr/{next(self._numbers)}", pickle.dumps(value)
        pieces = [mine[begin : begin + _PIECE] for begin in range(0, len(mine), _PIECE)]
        for i, piece in enumerate(pieces):
            client.key_value_set_bytes(f"{name}/{self.rank}/{i}", piece)
        client.key_value_set(f"{name}/{self.rank}", str(len(pieces)))
        values = []
        try:
            for rank in range(self.size):
                count = int(client.blocking_key_value_get(f"{name}/{rank}", _PATIENCE))
                got = [client.blocking_key_value_get_bytes(f"{name}/{rank}/{i}", _PATIENCE) for i in range(count)]
                values.append(pickle.loads(b"".join(got)))
        except jax.errors.JaxRuntimeError as error:
            raise ConnectionError(f"another process has ended, or cannot be reached: {str(error)[:200]}") from None
        return values

    def from_main(self, value: Any) -> Any:
        """The main process's value, in every process."""
        return self.gather_objects(value if self.is_main else None)[0]


def _client() -> Any:
    """The connection to the coordinator, for which JAX has no public name."""
    from jax._src import distributed

    return distributed.global_state.client


def start() -> World:
    """Joins the processes that a launcher started, or stands alone.

    JAX knows the launchers: SLURM, Open MPI, Kubernetes and the hosts of a TPU pod slice. By hand they are
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises:
        ValueError: torchrun started this process, or a variable is no number.
    """
    if whole_number("WORLD_SIZE", 1, 1) > 1:
        raise ValueError("engine=xla takes all devices of a host in one process: leave NPROC_PER_NODE out")
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if address:
        if not re.fullmatch(r".+:\d{1,5}", address):
            raise ValueError(f"JAX_COORDINATOR_ADDRESS should be HOST:PORT, but it is {address!r}")
        jax.distributed.initialize(address, whole_number("JAX_NUM_PROCESSES", 1), whole_number("JAX_PROCESS_ID", 0))
    elif _launched():
        jax.distributed.initialize()
    return Hosts(jax.process_index(), jax.process_count(), torch.device("cpu"))


def _launched() -> bool:
    """Whether a launcher started several processes."""
    counts = (whole_number(name, 1, 1) for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"))
    hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")
    return any(count > 1 for count in counts) or len(hosts) > 1


def devices_of(device: str) -> list[jax.Device]:
    """The devices of this process that `device` names: auto, cpu, cuda, or cuda:1.

    Raises:
        ValueError: JAX has no such device.
    """
    platform, _, number = device.partition(":")
    try:
        devices = jax.local_devices(backend=None if platform == "auto" else platform)
        return [devices[int(number)]] if number else devices
    except (RuntimeError, IndexError):
        raise ValueError(f"device={device} needs a device that JAX can use; it has {jax.devices()}") from None
