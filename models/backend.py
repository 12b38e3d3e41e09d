"""What computes a model: fused kernels, compiled PyTorch, or plain PyTorch. Chosen once, when a model is built."""

import importlib.util
from dataclasses import dataclass

import torch

from config.schema import Arch, AttentionChoice, Compile, HRMSRUArch, KernelsChoice
from models.attention import AttentionFunction, flash, sdpa

_WIDEST_HEAD = 64


@dataclass(frozen=True)
class Backend:
    """`kernels`: blocks, noise and scans by Triton; `attention`: None is the kernel, where blocks are fused."""

    kernels: bool = False
    compiled: bool = False
    attention: AttentionFunction | None = sdpa
    why: str = "plain PyTorch"


PLAIN = Backend()


def has_triton() -> bool:
    """Whether Triton is installed, in a version that has what the kernels use."""
    try:
        return importlib.util.find_spec("triton.tools.tensor_descriptor") is not None
    except ModuleNotFoundError:
        return False


def _obstacle(arch: Arch, device: torch.device) -> str | None:
    """Why kernels cannot be used, or None."""
    if device.type != "cuda":
        return f"the device is {device.type}"
    if not has_triton():
        return "Triton is missing or older than 3.4"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return f"{torch.cuda.get_device_name(device)} is older than they support"
    if arch.forward_dtype not in ("bfloat16", "float16"):
        return f"they compute in bfloat16 or float16, not {arch.forward_dtype}"
    return None


def choose(
    kernels: KernelsChoice, attention: AttentionChoice, compiled: Compile, arch: Arch, device: torch.device
) -> Backend:
    """The fastest backend that the choices and the device allow; `why` says what and why in one line.

    Raises:
        ValueError: attention=triton where there are no kernels, or attention=flash without its package.
    """
    obstacle = _obstacle(arch, device)
    if kernels == "off" or compiled is True:
        obstacle = "kernels=off" if kernels == "off" else "compile=true"
    wide = not isinstance(arch, HRMSRUArch) and arch.hidden_size // arch.num_heads > _WIDEST_HEAD
    if attention == "triton" and (obstacle or wide):
        raise ValueError(f"attention=triton: {obstacle or f'its heads have at most {_WIDEST_HEAD} features'}")
    own = obstacle is None and not wide and attention in ("auto", "triton")
    function = None if own else flash() if attention == "flash" else sdpa
    compile_ = obstacle is not None and (compiled is True or (compiled == "auto" and device.type == "cuda"))
    what = "compiled PyTorch" if compile_ else "plain PyTorch"
    why = "Triton kernels" if obstacle is None else f"{what}, no kernels: {obstacle}"
    return Backend(obstacle is None, compile_, function, why)
