"""What a configuration may say. Key names are those of the released programs.

Every model is strict and frozen, and refuses keys that it does not know. What several keys must agree
on is checked here too, so that a wrong configuration fails before any work.
"""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Positive = Annotated[int, Field(gt=0, lt=2**31)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
NonNegative = Annotated[float, Field(ge=0, le=1e38, allow_inf_nan=False)]
"""What fits into 32 bits, an integer or a float."""
Decay = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Compile = Literal["auto"] | bool
"""auto: compile where there is a GPU but no kernels."""
KernelsChoice = Literal["auto", "off", "float8"]
"""auto: Triton kernels where the device has them; float8: and the SwiGLUs of wide layers in 8 bits without gradient."""
AttentionChoice = Literal["auto", "triton", "flash", "sdpa"]
"""auto: the kernel where there are kernels, else sdpa, which is PyTorch's own."""
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]


class Strict(BaseModel):
    """Refuses unknown keys and wrong types, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Loss(Strict):
    """The token loss."""

    loss_type: Literal["stablemax_cross_entropy", "softmax_cross_entropy"] = "stablemax_cross_entropy"


class BaseArch(Strict):
    """What all models share: embedding, positions, halting."""

    q_continue: ClassVar[bool] = False
    """Whether halting compares q_halt with a learned q_continue (HRM) instead of with 0."""
    random_starts: ClassVar[bool] = True
    """Whether trajectories can start at random, which breadth needs."""

    loss: Loss = Loss()
    hidden_size: Positive
    halt_max_steps: Positive = 16
    halt_exploration_prob: Share = 0.1
    learned_halting: bool = True
    pos_encodings: Literal["none", "rope", "rope2d", "learned", "absolute"] = "none"
    puzzle_emb_ndim: Count = 0
    puzzle_emb_len: Count = 0
    forward_dtype: Literal["bfloat16", "float16", "float32", "float64"] = "bfloat16"

    @property
    def puzzle_tokens(self) -> int:
        """P: puzzle-embedding tokens before the puzzle's own."""
        return self.puzzle_emb_len or -(-self.puzzle_emb_ndim // self.hidden_size)

    @model_validator(mode="after")
    def _check(self) -> "BaseArch":
        if self.pos_encodings == "absolute" and self.hidden_size % 2:
            raise ValueError(f"arch.pos_encodings=absolute needs an even arch.hidden_size, not {self.hidden_size}")
        if self.puzzle_emb_len and not self.puzzle_emb_ndim:
            raise ValueError(f"arch.puzzle_emb_len={self.puzzle_emb_len} needs arch.puzzle_emb_ndim above 0")
        if self.puzzle_emb_ndim > self.puzzle_tokens * self.hidden_size:
            raise ValueError(
                f"arch.puzzle_emb_ndim={self.puzzle_emb_ndim} does not fit into arch.puzzle_emb_len="
                f"{self.puzzle_emb_len} tokens of size {self.hidden_size}"
            )
        return self


class BlockArch(BaseArch):
    """What models of blocks share: heads of attention with their rotary positions, or a mixer in their place."""

    num_heads: Positive
    expansion: Annotated[float, Field(ge=0.1, le=100)] = 4
    mlp_t: bool = False
    pos_encodings: Literal["none", "rope", "rope2d", "learned", "absolute"] = "rope"
    board_height: Positive | None = None
    board_width: Positive | None = None

    @model_validator(mode="after")
    def _check_heads(self) -> "BlockArch":
        head = self.hidden_size // self.num_heads
        if self.hidden_size % self.num_heads:
            raise ValueError(f"arch.num_heads={self.num_heads} must divide arch.hidden_size={self.hidden_size}")
        if not self.mlp_t and self.pos_encodings == "rope" and head % 2:
            raise ValueError(
                f"arch.pos_encodings=rope needs an even head size, but arch.hidden_size / arch.num_heads is {head}"
            )
        if not self.mlp_t and self.pos_encodings == "rope2d" and head % 4:
            raise ValueError(
                "arch.pos_encodings=rope2d needs a head size divisible by 4, "
                f"but arch.hidden_size / arch.num_heads is {head}"
            )
        return self


class RecursionArch(BlockArch):
    """What TRM and EqR share: one network of `L_layers` blocks, applied H_cycles * (L_cycles + 1) times."""

    L_layers: Positive
    H_cycles: Positive
    L_cycles: Positive


class TRMArch(RecursionArch):
    """TRM: the plain recursion from stored starts."""

    name: Literal["trm"]


class EqRArch(RecursionArch):
    """EqR: the relaxed, noisy recursion from random starts. The paper's lambda is 1 - lambda_, its beta noise_scale."""

    name: Literal["eqr"]
    lambda_: Annotated[float, Field(gt=0, le=1)] = 0.95
    noise_scale: NonNegative = 0.01
    H_init_std: NonNegative = 1.0
    L_init_std: NonNegative = 1.0


class HRMArch(BlockArch):
    """Two networks, of `H_layers` and `L_layers` blocks."""

    q_continue: ClassVar[bool] = True
    name: Literal["hrm"]
    H_layers: Positive
    L_layers: Positive
    H_cycles: Positive
    L_cycles: Positive


class HRMSRUArch(BaseArch):
    """Two stacks of recurrent units, of `H_layers` and `L_layers` layers; hrm_srupp mixes positions by attention."""

    q_continue: ClassVar[bool] = True
    name: Literal["hrm_sru", "hrm_srupp"]
    H_layers: Positive
    L_layers: Positive

    @model_validator(mode="after")
    def _check_units(self) -> "HRMSRUArch":
        if self.pos_encodings in ("rope", "rope2d"):
            raise ValueError(
                f"arch.name={self.name} takes arch.pos_encodings none, learned or absolute, not {self.pos_encodings}"
            )
        if self.name == "hrm_srupp" and self.hidden_size % 16:
            raise ValueError(f"arch.name=hrm_srupp needs arch.hidden_size divisible by 16, not {self.hidden_size}")
        return self


class FeedforwardArch(BlockArch):
    """One network of `L_layers` blocks, applied `repeats` times from zero."""

    random_starts: ClassVar[bool] = False
    name: Literal["feedforward"]
    L_layers: Positive
    repeats: Positive = 1


Arch = TRMArch | EqRArch | HRMArch | HRMSRUArch | FeedforwardArch


class Dataset(Strict):
    """A data set: its name, and the folder that a builder wrote."""

    name: str
    data_path: str


class PretrainConfig(Strict):
    """A training run. Steps count outer iterations of all slots, that is, optimizer steps."""

    arch: Annotated[Arch, Field(discriminator="name")]
    dataset: Dataset

    seed: Count = 0
    global_batch_size: Positive
    gradient_accumulation_steps: Positive = 1
    epochs: Positive
    join_epochs: bool = False
    max_steps: Positive | None = None
    max_seconds: Annotated[float, Field(gt=0, le=1e9)] | None = None

    optimizer: Literal["adam_atan2", "adam_atan2_package"] = "adam_atan2"
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
    ema: bool = True
    ema_rate: Decay = 0.999

    log_interval_steps: Positive = 10
    eval_interval_steps: Positive | None = None
    eval_puzzles: Positive = 1024
    checkpoint_interval_steps: Positive | None = None
    checkpoint_latents: bool = True
    checkpoint_path: str = "outputs"
    run_name: Annotated[str, Field(pattern=r"^[\w.+-]*[\w+-][\w.+-]*$")]
    project_name: str = "EqR"
    entity: str | None = None
    wandb_mode: Literal["auto", "online", "offline", "disabled"] = "auto"

    resume: str | None = None
    load_checkpoint: str | None = None
    kernels: KernelsChoice = "auto"
    attention: AttentionChoice = "auto"
    compile: Compile = "auto"
    cuda_graphs: bool = True
    device: Device = "auto"

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
        return self

    def rows_per_rank(self, world: int) -> int:
        """Slots that each of `world` processes works on.

        Raises:
            ValueError: the batch cannot be shared out evenly.
        """
        pieces = world * self.gradient_accumulation_steps
        if self.global_batch_size % pieces:
            raise ValueError(
                f"global_batch_size={self.global_batch_size} is not divisible by {world} process(es) x "
                f"gradient_accumulation_steps={self.gradient_accumulation_steps}"
            )
        return self.global_batch_size // world


class EvalConfig(Strict):
    """An evaluation. What is None is taken from the checkpoint's own configuration."""

    checkpoint: str
    dataset_data_path: str | None = None
    split: Literal["test", "train"] = "test"
    halt_max_steps: Annotated[list[Positive], Field(min_length=1)] | None = None
    different_init: Positive = 1
    different_init_reset_std: NonNegative = 1.0
    perturb_std: NonNegative = 0.0
    convergence_top_k: Positive | None = None
    convergence_window: Positive = 3
    global_batch_size: Positive = 768
    max_eval_steps: Positive | None = None
    max_puzzles: Positive | None = None
    seed: Count = 0
    ema: bool = True

    streaming: bool = False
    halt_q: Annotated[float, Field(gt=0, lt=1)] | None = None
    halt_residual: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    halt_patience: Positive = 3
    halt_min_steps: Positive = 2
    agree: Positive | None = None
    look_interval: Positive = 2

    lambda_: Annotated[float, Field(gt=0, le=1)] | None = None
    noise_scale: NonNegative | None = None
    H_init_std: NonNegative | None = None
    L_init_std: NonNegative | None = None
    forward_dtype: Literal["bfloat16", "float16", "float32", "float64"] | None = None

    eval_dir: str | None = None
    per_puzzle: bool = False
    shard: str | None = None
    kernels: KernelsChoice = "auto"
    attention: AttentionChoice = "auto"
    compile: Compile = "auto"
    cuda_graphs: bool = True
    device: Device = "auto"

    @property
    def shard_of(self) -> tuple[int, int]:
        """(i, n) of `shard` "i/n", the i-th of n, counted from 1; (1, 1) where there is none."""
        i, _, n = (self.shard or "1/1").partition("/")
        return int(i), int(n)

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
        std = self.different_init_reset_std
        if std != EvalConfig.model_fields["different_init_reset_std"].default and self.different_init == 1:
            raise ValueError(f"different_init_reset_std={std} has no effect with different_init=1")
        if self.shard and (not re.fullmatch(r"\d+/\d+", self.shard) or not 0 < self.shard_of[0] <= self.shard_of[1]):
            raise ValueError(f"shard should be like 3/16, the third of sixteen parts, but it is {self.shard!r}")
        self._check_streaming()
        return self

    def _check_streaming(self) -> None:
        for name in ("halt_q", "halt_residual", "agree", "halt_min_steps", "halt_patience", "look_interval"):
            value = self.model_dump()[name]
            if value != EvalConfig.model_fields[name].default and not self.streaming:
                raise ValueError(f"{name}={value} has no effect without streaming=true")
        for name, rules in (("halt_patience", ["halt_residual"]), ("halt_min_steps", ["halt_q", "halt_residual"])):
            value = self.model_dump()[name]
            if value != EvalConfig.model_fields[name].default and not any(self.model_dump()[rule] for rule in rules):
                raise ValueError(f"{name}={value} has no effect without {' or '.join(rules)}")
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
