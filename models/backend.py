"""What computes a model: fused kernels, compiled PyTorch, or plain PyTorch. Chosen once, when a model is built."""

import importlib.util
from dataclasses import dataclass
from importlib.metadata import version

import torch

from config.architectures import Arch, BlockArch
from config.schema import EvalConfig, PretrainConfig
from models.attention import AttentionFunction, flash, sdpa
from models.devices import kind
from models.kernels.limits import WIDEST_HEAD, WIDEST_KERNEL_ROW
from models.parts import Parts, plain

_KERNELS, _COMPILED, _PLAIN, _XLA = "Triton kernels", "compiled PyTorch", "plain PyTorch", "XLA"


@dataclass(frozen=True)
class Backend:
    """What computes a model.

    Args:
        kernels: Triton kernels compute blocks, noise and scans.
        compiled: torch.compile compiles the networks.
        attention: attention of a library; None is the kernel.
        details: reasons and extras for people to read.
        graphs: an outer iteration, or a whole step of training, runs as one CUDA graph.
        float8: passes without gradient multiply in 8 bits in SwiGLUs over more than 128 features.
        xla: an evaluation takes the weights alone and computes in XLA (xla/).
    """

    kernels: bool = False
    compiled: bool = False
    attention: AttentionFunction | None = sdpa
    details: str = ""
    graphs: bool = False
    float8: bool = False
    xla: bool = False

    @property
    def name(self) -> str:
        """Names what computes, without reasons."""
        return _XLA if self.xla else _KERNELS if self.kernels else _COMPILED if self.compiled else _PLAIN

    @property
    def why(self) -> str:
        """Says in one line what computes, and why."""
        return ", ".join(filter(None, (self.name, self.details)))

    def parts(self) -> Parts:
        """The building blocks of models."""
        if self.kernels:
            from models.kernels.parts import fused  # needs Triton

            return fused(self.attention, self.float8, self.graphs)
        assert self.attention is not None
        return plain(self.attention)


PLAIN = Backend()


def has_triton() -> bool:
    """Whether Triton is installed, in a version that is new enough for the kernels."""
    try:
        return importlib.util.find_spec("triton.tools.tensor_descriptor") is not None
    except ImportError:
        return False


def _obstacle(arch: Arch, device: torch.device) -> str | None:
    """Why the kernels cannot compute this model on this device, or None."""
    if not kind(device).kernels:
        return f"the device is {device.type}"
    if torch.version.hip:
        return "they are written for NVIDIA's GPUs"
    if not has_triton():
        return "Triton is missing or older than 3.4"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return f"{torch.cuda.get_device_name(device)} is older than they support"
    if arch.forward_dtype not in ("bfloat16", "float16"):
        return f"they compute in bfloat16 or float16, not {arch.forward_dtype}"
    return None


def _no_compiler(arch: Arch, device: torch.device) -> str | None:
    """Why torch.compile cannot compile this model for this device, or None."""
    if not kind(device).kernels:
        return None
    if importlib.util.find_spec("triton") is None:
        return "torch.compile needs Triton on a GPU"
    if torch.cuda.get_device_capability(device) < ((8, 0) if arch.forward_dtype == "bfloat16" else (7, 0)):
        return f"torch.compile does not support {arch.forward_dtype} on {torch.cuda.get_device_name(device)}"
    return None


def no_float8(arch: Arch, device: torch.device) -> str | None:
    """Why the kernels cannot multiply in 8 bits here, or None."""
    if obstacle := _obstacle(arch, device):
        return obstacle
    if torch.cuda.get_device_capability(device) < (8, 9):
        return f"{torch.cuda.get_device_name(device)} does not multiply in 8 bits"
    if not isinstance(arch, BlockArch) or arch.hidden_size <= WIDEST_KERNEL_ROW or arch.hidden_size % 16:
        return f"it is for blocks of more than {WIDEST_KERNEL_ROW} features, a multiple of 16"
    return None


def choose(config: PretrainConfig | EvalConfig, arch: Arch, device: torch.device) -> Backend:
    """The fastest backend that the configuration and the device allow.

    Raises:
        ValueError: the configuration names a backend that cannot run here. `auto` never raises.
    """
    if isinstance(config, EvalConfig) and config.engine == "xla":
        return Backend(xla=True, details=f"jax {version('jax')}")
    attention, compiled, graphs = config.attention, config.compile, config.cuda_graphs
    unwanted = "kernels=off" if config.kernels == "off" else "compile=true" if compiled is True else None
    obstacle = unwanted or _obstacle(arch, device)
    wide = isinstance(arch, BlockArch) and not arch.mlp_t and arch.hidden_size // arch.num_heads > WIDEST_HEAD
    narrow = f"its heads have at most {WIDEST_HEAD} features"
    if attention == "triton" and (obstacle or wide):
        raise ValueError(f"attention=triton is a kernel that cannot run here: {obstacle or narrow}")
    own = obstacle is None and not wide and attention in ("auto", "triton")
    library = None if own else flash(device, arch.forward_dtype) if attention == "flash" else sdpa
    float8 = config.kernels == "float8"
    if float8 and (why_not := obstacle or no_float8(arch, device)):
        raise ValueError(f"kernels=float8 cannot run here: {why_not}")
    if obstacle is None:
        details = [*["CUDA graphs"] * graphs, *[f"no attention kernel: {narrow}"] * wide]
        details += ["float8 where there is no gradient"] * float8
        return Backend(True, False, library, ", ".join(details), graphs, float8)
    no_compiler = _no_compiler(arch, device)
    if compiled is True and no_compiler:
        raise ValueError(f"compile=true cannot run here: {no_compiler}")
    compile_ = compiled is True or (compiled == "auto" and kind(device).kernels and no_compiler is None)
    return Backend(False, compile_, library, f"no kernels: {obstacle}")
