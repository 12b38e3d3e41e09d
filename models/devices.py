"""What differs between the kinds of devices that PyTorch computes on, and the choice of one. Each fact stands here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch


class DeviceKind(NamedTuple):
    """A kind of device.

    Args:
        available: whether there is one that PyTorch can use.
        widest: the widest floats that it computes with.
        kernels: Triton kernels, CUDA graphs and torch.compile run on it.
        processes: several processes can exchange tensors on it.
        wait: waits until it has done its work.
    """

    available: Callable[[], bool]
    widest: torch.dtype = torch.float64
    kernels: bool = False
    processes: bool = False
    wait: Callable[[], None] = lambda: None


DEVICES = {
    "cuda": DeviceKind(
        lambda: torch.cuda.is_available(), kernels=True, processes=True, wait=lambda: torch.cuda.synchronize()
    ),
    "mps": DeviceKind(
        lambda: torch.backends.mps.is_available(), widest=torch.float32, wait=lambda: torch.mps.synchronize()
    ),
    "xpu": DeviceKind(lambda: torch.xpu.is_available(), widest=torch.float32, wait=lambda: torch.xpu.synchronize()),
    "cpu": DeviceKind(lambda: True, processes=True),
}
"""In the order in which `auto` takes them. Many GPUs of the kind xpu do not compute with float64."""


def kind(device: torch.device) -> DeviceKind:
    """The kind of a device. One that is not in the table has what the CPU has."""
    return DEVICES.get(device.type, DEVICES["cpu"])


def chosen(name: str, processes: int = 1) -> str:
    """The name of a device: of the first in the table that is here and can do it for "auto", else the given one.

    Raises:
        ValueError: there is no such device, or not for so many processes.
    """
    fit = {type_: entry for type_, entry in DEVICES.items() if processes == 1 or entry.processes}
    if name == "auto":
        return next(type_ for type_, entry in fit.items() if entry.available())
    type_ = name.split(":")[0]
    if type_ in DEVICES and not DEVICES[type_].available():
        raise ValueError(
            f"device={name} needs a {'GPU' if type_ != 'mps' else 'Mac'} that PyTorch can use, and there is none; "
            "use device=cpu"
        )
    if type_ in DEVICES and type_ not in fit:
        raise ValueError(f"device={name} is for one process, but there are {processes}: use {' or '.join(fit)}")
    return name


@contextmanager
def fork_rng(device: torch.device) -> Iterator[None]:
    """Leaves PyTorch's generators, the CPU's and the device's, as they were before."""
    if device.type == "mps":  # it has one generator, which torch.random.fork_rng does not know
        before = torch.mps.get_rng_state()
        try:
            with torch.random.fork_rng([]):
                yield
        finally:
            torch.mps.set_rng_state(before)
    elif device.type in ("cuda", "xpu"):
        with torch.random.fork_rng([device], device_type=device.type):
            yield
    else:
        with torch.random.fork_rng([]):
            yield
