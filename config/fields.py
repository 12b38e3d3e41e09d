"""What the fields of a configuration are made of: types, and the roles of a key.

A key's role stands in its type, as in `seed: Fixed[Count]`. `keys` lists the keys of a role.
"""

from enum import Enum, auto
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

# numbers that fit into 32 bits
Positive = Annotated[int, Field(gt=0, lt=2**31)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Cycles = Annotated[int, Field(gt=0, le=1000)]
"""Applications of a network within an outer iteration."""
NonNegative = Annotated[float, Field(ge=0, le=1e38, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(gt=0, le=1)]
Positions = Literal["none", "rope", "rope2d", "learned", "absolute"]
Precision = Literal["bfloat16", "float16", "float32", "float64"]
Compiled = Literal["auto"] | bool
"""auto: compile on a GPU that has no kernels."""
Kernels = Literal["auto", "off", "float8"]
"""auto: Triton kernels if the device has them. float8: also the SwiGLUs of wide layers in 8 bits, without gradient."""
Attention = Literal["auto", "triton", "flash", "sdpa"]
"""auto: the kernel if the device has kernels, else sdpa, which is PyTorch's own."""
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?|mps|xpu(:\d+)?)$")]


class Role(Enum):
    """What a key is to the program. A key may have several roles, or none."""

    FIXED = auto()
    LOCAL = auto()
    COMPUTE = auto()
    MODEL = auto()
    EXTENT = auto()
    STREAMING = auto()


T = TypeVar("T")
Fixed = Annotated[T, Role.FIXED]
"""A run that goes on keeps it."""
Local = Annotated[T, Role.LOCAL]
"""Says where one job works, or which part of the work is its own. The numbers of the whole do not depend on it."""
Compute = Annotated[T, Role.COMPUTE]
"""Says how the same numbers are computed."""
Model = Annotated[T, Role.MODEL]
"""A setting of the model, which an evaluation may change. None: as in training."""
Extent = Annotated[T, Role.EXTENT]
"""How deep, how broad, and on how many puzzles."""
Streaming = Annotated[T, Role.STREAMING]
"""Has an effect in a streaming evaluation only."""


class Strict(BaseModel):
    """Refuses unknown keys, wrong types and empty texts, which a shell makes of unset variables. Does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, str_min_length=1)


def keys(config: type[BaseModel], *roles: Role) -> tuple[str, ...]:
    """The keys of a configuration that have one of the roles, in its order."""
    return tuple(name for name, field in config.model_fields.items() if any(role in field.metadata for role in roles))
