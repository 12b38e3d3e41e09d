"""The settings of each model (`arch` in a configuration). Key names are those of the released programs."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from config.fields import Count, Cycles, NonNegative, Positions, Positive, Precision, Share, Strict, Weight


class Loss(Strict):
    """The token loss."""

    loss_type: Literal["stablemax_cross_entropy", "softmax_cross_entropy"] = "stablemax_cross_entropy"


class BaseArch(Strict):
    """The settings that all models share: embedding, positions, halting."""

    q_continue: ClassVar[bool] = False
    """Whether halting compares q_halt with a learned q_continue (HRM) instead of with 0."""
    random_starts: ClassVar[bool] = True
    """Whether trajectories can start at random, which breadth needs."""

    loss: Loss = Loss()
    hidden_size: Positive
    halt_max_steps: Annotated[int, Field(gt=0, le=10_000)] = 16
    halt_exploration_prob: Share = 0.1
    learned_halting: bool = True
    pos_encodings: Positions = "none"
    puzzle_emb_ndim: Count = 0
    puzzle_emb_len: Annotated[int, Field(ge=0, le=4096)] = 0
    forward_dtype: Precision = "bfloat16"

    @property
    def puzzle_tokens(self) -> int:
        """P, the number of puzzle-embedding tokens before the puzzle's own tokens."""
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
    """The settings of a model of blocks: heads of attention with rotary positions, or a mixer instead of them."""

    num_heads: Positive
    expansion: Annotated[float, Field(ge=0.1, le=100)] = 4
    mlp_t: bool = False
    pos_encodings: Positions = "rope"
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
    """TRM and EqR: one network of `L_layers` blocks, applied H_cycles * (L_cycles + 1) times."""

    L_layers: Positive
    H_cycles: Cycles
    L_cycles: Cycles


class TRMArch(RecursionArch):
    """TRM: the plain recursion from stored starts. With `H_layers` above 0, a second network updates z_H."""

    name: Literal["trm"]
    H_layers: Count = 0


class EqRArch(RecursionArch):
    """EqR: the relaxed, noisy recursion from random starts. The paper's lambda is 1 - lambda_, its beta noise_scale."""

    name: Literal["eqr"]
    lambda_: Weight = 0.95
    noise_scale: NonNegative = 0.01
    H_init_std: NonNegative = 1.0
    L_init_std: NonNegative = 1.0


class HRMArch(BlockArch):
    """Two networks, of `H_layers` and `L_layers` blocks."""

    q_continue: ClassVar[bool] = True
    name: Literal["hrm"]
    H_layers: Positive
    L_layers: Positive
    H_cycles: Cycles
    L_cycles: Cycles


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
    repeats: Cycles = 1


Arch = TRMArch | EqRArch | HRMArch | HRMSRUArch | FeedforwardArch
