"""The only start and stop of several processes. All other code asks the World for rank and size."""

import importlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from config.environment import whole_number
from models.devices import chosen as chosen_name
from runtime import joining


@contextmanager
def _with_siblings() -> Iterator[None]:
    """Raises ConnectionError, with the library's words, if a message cannot be exchanged."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not re.search("gloo|nccl", str(error), re.IGNORECASE):
            raise
        reason = str(error).splitlines()[0][:200]
        raise ConnectionError(f"another process has ended, or cannot be reached: {reason}") from error


@dataclass(frozen=True)
class World:
    """This process among its siblings: `rank` of `size`, working on `device`.

    An exchange raises ConnectionError if one of them has ended or cannot be reached. `memory` lasts as long as the
    torchrun that started them, also when it starts them again.
    """

    rank: int
    size: int
    device: torch.device
    memory: dist.Store | None = None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def is_first_here(self) -> bool:
        """Whether this is the first process of its host."""
        return os.environ.get("LOCAL_RANK", str(self.rank)) == "0"

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        """Adds up the tensors over all processes, in place, with one message for each dtype."""
        if self.size == 1:
            return
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
        for group in by_dtype.values():
            flat = torch.cat([t.reshape(-1) for t in group])
            with _with_siblings():
                dist.all_reduce(flat)
            for tensor, part in zip(group, flat.split([t.numel() for t in group]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def from_main(self, value: Any) -> Any:
        """The main process's value, in every process."""
        if self.size == 1:
            return value
        box = [value]
        with _with_siblings():
            dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def remember(self, name: str, value: str) -> None:
        """Keeps a value for the processes that take the place of these, if one of them is killed."""
        if self.memory is not None:
            self.memory.set(name, value)

    def remembered(self, name: str) -> str | None:
        """What processes that were here before have kept under this name."""
        return self.memory.get(name).decode() if self.memory is not None and self.memory.check([name]) else None

    def gather_objects(self, value: Any) -> list[Any]:
        """Every process's value, in rank order, in every process."""
        if self.size == 1:
            return [value]
        box: list[Any] = [None] * self.size
        with _with_siblings():
            dist.all_gather_object(box, value)
        return box

    def gather_rows(self, tensor: Tensor) -> Tensor:
        """The rows of all processes, in rank order, in every process: [B, ...] -> [size * B, ...]."""
        if self.size == 1:
            return tensor
        is_bool = tensor.dtype == torch.bool
        mine = (tensor.to(torch.uint8) if is_bool else tensor).contiguous()
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        with _with_siblings():
            dist.all_gather(parts, mine)
        rows = torch.cat(parts)
        return rows.bool() if is_bool else rows


def start(device: str) -> World:
    """Joins the processes that were started with this one, or stands alone.

    NCCL connects GPUs, gloo connects CPUs.

    Args:
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:N", "mps" or "xpu". Each of several processes takes
            the GPU of its local rank.

    Raises:
        ValueError: there is no such GPU, or the environment does not say how many processes there are.
        ConnectionError: another process has not come, or cannot be reached.
    """
    rank, size = joining.place()
    name = chosen_name(device, size)
    cuda = name.startswith("cuda")
    if not cuda:
        chosen = torch.device(name)
    elif size > 1 or ":" not in name:
        chosen = torch.device("cuda", whole_number("LOCAL_RANK", 0, 0))
    else:
        chosen = torch.device(name)
    if cuda:
        if chosen.index is not None and chosen.index >= torch.cuda.device_count():
            raise ValueError(f"{chosen} does not exist: there are {torch.cuda.device_count()} GPU(s)")
        torch.cuda.set_device(chosen)
        torch.set_float32_matmul_precision("high")  # TF32 where a model computes in float32
    memory = None
    if joining.watched():
        joining.end_with_parent()
    if size > 1 or joining.watched():
        with _with_siblings():
            rank, memory, store = joining.join(rank, size)
    if size > 1:
        # Its default arguments hold the group that exists when it is imported, beyond stop(). The first optimizer
        # imports it. Then gloo's threads live on, and may abort the process when the interpreter ends.
        importlib.import_module("torch.distributed.nn")
        with _with_siblings():
            dist.init_process_group("nccl" if cuda else "gloo", store=store, rank=rank, world_size=size)
    return World(rank, size, chosen, memory)


def wait_for_all() -> None:
    """Returns when every process has come here, so that none leaves while another one writes.

    Raises:
        ConnectionError: another process has ended instead, or cannot be reached.
    """
    if not dist.is_initialized():
        return
    gpu = [torch.cuda.current_device()] if dist.get_backend() == "nccl" else None  # PyTorch warns without it
    with _with_siblings():
        dist.barrier(device_ids=gpu)


def stop() -> None:
    """Leaves the group of processes, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
