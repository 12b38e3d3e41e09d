"""What a configuration may say. Key names are those of the released programs.

Every model is strict and frozen, and refuses keys that it does not know. It also checks what several keys must agree
on, so that a wrong configuration fails before any work.
"""

import json
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from config.architectures import Arch
from config.fields import (
    Attention,
    Compiled,
    Compute,
    Count,
    Decay,
    Device,
    Extent,
    Fixed,
    Kernels,
    Local,
    Model,
    NonNegative,
    Positive,
    Precision,
    Role,
    Share,
    Streaming,
    Strict,
    Weight,
    keys,
)


class Dataset(Strict):
    """A data set: its name and its folder, which a builder wrote."""

    name: str
    data_path: str


class PretrainConfig(Strict):
    """A training run. A step is one outer iteration of all slots, and one step of the optimizer."""

    arch: Fixed[Annotated[Arch, Field(discriminator="name")]]
    dataset: Dataset

    seed: Fixed[Count] = 0
    global_batch_size: Fixed[Positive]
    gradient_accumulation_steps: Positive = 1
    epochs: Positive
    join_epochs: Fixed[bool] = False
    max_steps: Positive | None = None
    max_seconds: Local[Annotated[float, Field(gt=0, le=1e9)] | None] = None

    optimizer: Fixed[Literal["adam_atan2", "adam_atan2_package"]] = "adam_atan2"
    lr: NonNegative
    lr_min_ratio: Share = 1.0
    lr_decay_steps: Positive | None = None
    lr_warmup_steps: Count = 2000
    weight_decay: NonNegative
    beta1: Decay = 0.9
    beta2: Decay = 0.95
    grad_clip_norm: Annotated[float, Field(gt=0)] | None = None
    puzzle_emb_lr: NonNegative = 1e-4
    puzzle_emb_weight_decay: NonNegative = 1.0
    ema: Fixed[bool] = True
    ema_rate: Decay = 0.999

    log_interval_steps: Positive = 10
    eval_interval_steps: Positive | None = 2500
    eval_puzzles: Positive = 1024
    checkpoint_interval_steps: Positive | None = 2500
    checkpoint_latents: bool = True
    checkpoint_path: Fixed[Local[str]] = "outputs"
    run_dir: Local[str | None] = None
    run_name: Fixed[Annotated[str, Field(pattern=r"^[\w.+-]*[\w+-][\w.+-]*$")]]
    project_name: Local[str] = "EqR"
    entity: Local[str | None] = None
    wandb_mode: Local[Literal["auto", "online", "offline", "disabled"]] = "auto"

    resume: Local[str | None] = None
    load_checkpoint: str | None = None
    kernels: Kernels = "auto"
    attention: Compute[Attention] = "auto"
    compile: Compute[Compiled] = "auto"
    cuda_graphs: Compute[bool] = True
    device: Local[Device] = "auto"

    @model_validator(mode="after")
    def _check(self) -> "PretrainConfig":
        if self.global_batch_size % self.gradient_accumulation_steps:
            raise ValueError(
                f"gradient_accumulation_steps={self.gradient_accumulation_steps} must divide "
                f"global_batch_size={self.global_batch_size}"
            )
        if self.lr_decay_steps and self.lr_min_ratio == 1:
            raise ValueError(
                f"lr_decay_steps={self.lr_decay_steps} has no effect with lr_min_ratio=1.0: 0 lets the rate fall to 0"
            )
        if self.resume and self.run_dir:
            raise ValueError("give resume (go on with a run) or run_dir (begin in this folder, or go on), not both")
        return self

    def rows_per_rank(self, world: int) -> int:
        """How many slots each of `world` processes works on.

        Raises:
            ValueError: the batch does not divide evenly.
        """
        pieces = world * self.gradient_accumulation_steps
        if self.global_batch_size % pieces:
            raise ValueError(
                f"global_batch_size={self.global_batch_size} is not divisible by {world} process(es) x "
                f"gradient_accumulation_steps={self.gradient_accumulation_steps}"
            )
        return self.global_batch_size // world


class EvalConfig(Strict):
    """An evaluation. A key of None means what the checkpoint's own configuration says."""

    checkpoint: Local[str]
    dataset_data_path: Local[str | None] = None
    split: Literal["test", "train"] = "test"
    halt_max_steps: Extent[Annotated[list[Positive], Field(min_length=1)] | None] = None
    different_init: Extent[Positive] = 1
    different_init_reset_std: NonNegative | None = 1.0
    perturb_std: NonNegative = 0.0
    convergence_top_k: Extent[Positive | None] = None
    convergence_window: Positive = 3
    global_batch_size: Positive = 768
    max_eval_steps: Local[Extent[Positive | None]] = None  # local, since max_puzzles says the same in puzzles
    max_puzzles: Extent[Positive | None] = None
    seed: Count = 0
    ema: bool = True

    streaming: Streaming[bool] = False
    halt_q: Streaming[Annotated[float, Field(gt=0, lt=1)] | None] = None
    halt_residual: Streaming[Annotated[float, Field(gt=0, allow_inf_nan=False)] | None] = None
    halt_patience: Streaming[Positive] = 3
    halt_min_steps: Streaming[Positive] = 2
    agree: Streaming[Positive | None] = None
    look_interval: Streaming[Positive] = 2

    lambda_: Model[Weight | None] = None
    noise_scale: Model[NonNegative | None] = None
    H_init_std: Model[NonNegative | None] = None
    L_init_std: Model[NonNegative | None] = None
    forward_dtype: Model[Precision | None] = None

    recipe: Local[str | None] = None
    note: Local[str | None] = None
    eval_dir: Local[str | None] = None
    per_puzzle: bool = False
    shard: Local[str | None] = None
    engine: Compute[Literal["torch", "xla"]] = "torch"
    kernels: Kernels = "auto"
    attention: Compute[Attention] = "auto"
    compile: Compute[Compiled] = "auto"
    cuda_graphs: Compute[bool] = True
    device: Local[Device] = "auto"

    @property
    def shard_of(self) -> tuple[int, int]:
        """(i, n) of `shard` "i/n": the i-th of n parts, counted from 1. (1, 1) without a shard."""
        i, _, n = (self.shard or "1/1").partition("/")
        return int(i), int(n)

    def asks_for(self, key: str) -> bool:
        """Whether a key differs from its default."""
        return bool(self.model_dump()[key] != EvalConfig.model_fields[key].default)

    @field_validator("halt_max_steps", mode="before")
    @classmethod
    def _one_or_many(cls, depths: Any) -> Any:
        return [depths] if isinstance(depths, (int, float, str)) else depths

    @model_validator(mode="after")
    def _check(self) -> "EvalConfig":
        if self.convergence_top_k and self.convergence_top_k > self.different_init:
            raise ValueError(
                f"convergence_top_k={self.convergence_top_k} keeps the best of different_init={self.different_init} "
                "trajectories, so it cannot be larger"
            )
        if self.asks_for("different_init_reset_std") and self.different_init == 1:
            std = json.dumps(self.different_init_reset_std)
            raise ValueError(f"different_init_reset_std={std} has no effect with different_init=1")
        if self.different_init_reset_std is None and not self.perturb_std:
            raise ValueError(
                "different_init_reset_std=null starts all trajectories of a puzzle alike, so it needs a perturb_std "
                "above 0"
            )
        if self.shard and (not re.fullmatch(r"\d+/\d+", self.shard) or not 0 < self.shard_of[0] <= self.shard_of[1]):
            raise ValueError(f"shard should be like 3/16, the third of sixteen parts, but it is {self.shard!r}")
        if self.engine == "xla":
            for name in ("kernels", "attention", "compile", "cuda_graphs"):
                if self.asks_for(name):
                    raise ValueError(f"{name}={self.model_dump()[name]} has no effect with engine=xla")
        self._check_streaming()
        return self

    def _check_streaming(self) -> None:
        values = self.model_dump()
        for name in keys(EvalConfig, Role.STREAMING):
            if self.asks_for(name) and not self.streaming:
                raise ValueError(f"{name}={values[name]} has no effect without streaming=true")
        for name, rules in (("halt_patience", ["halt_residual"]), ("halt_min_steps", ["halt_q", "halt_residual"])):
            if self.asks_for(name) and not any(values[rule] for rule in rules):
                raise ValueError(f"{name}={values[name]} has no effect without {' or '.join(rules)}")
        if self.streaming and self.halt_max_steps and len(self.halt_max_steps) > 1:
            raise ValueError(
                f"streaming=true takes one halt_max_steps, the most that a trajectory makes, not {self.halt_max_steps}"
            )
        if self.agree is None:
            return
        if self.halt_q is None and self.halt_residual is None:
            raise ValueError(f"agree={self.agree} needs halt_q or halt_residual: only trajectories that halt can agree")
        if self.agree > self.different_init:
            raise ValueError(f"agree={self.agree} cannot be larger than different_init={self.different_init}")
        if self.convergence_top_k and self.convergence_top_k > self.agree:
            raise ValueError(
                f"convergence_top_k={self.convergence_top_k} cannot be larger than agree={self.agree}: "
                "a puzzle may keep no more trajectories than that"
            )
