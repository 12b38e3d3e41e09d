"""The settings of an evaluation."""

from dataclasses import dataclass

from config.architectures import Arch
from config.schema import EvalConfig
from evaluation.halting import Halting


@dataclass(frozen=True)
class Settings:
    """How to evaluate.

    Args:
        depths: outer iterations after which to report. Streaming has one: the most that a trajectory makes.
        breadth: trajectories per puzzle.
        top_k: how many of the best converged trajectories to keep (None: without this selection).
        window: how many residuals the convergence score averages.
        rows: trajectories that a device works on at a time.
        seed: of all random draws.
        perturb_std: scale of the noise added to the latents before every outer iteration.
        loss_type: the token loss that is reported (config.architectures.Loss).
        learned_halting: whether the model learned q_halt. Only then has it a halting loss, and metrics of q_halt.
        halting: when a trajectory leaves its slot for the next one (None: never, not a streaming evaluation).
        agree: streaming: once this many halted restarts have the same answer, the puzzle's later restarts are dropped.
        look_interval: streaming: iterations between two looks of the host.
    """

    depths: list[int]
    breadth: int = 1
    top_k: int | None = None
    window: int = 3
    rows: int = 768
    seed: int = 0
    perturb_std: float = 0.0
    loss_type: str = "stablemax_cross_entropy"
    learned_halting: bool = True
    halting: Halting | None = None
    agree: int | None = None
    look_interval: int = 2


def settings_for(config: EvalConfig, arch: Arch) -> Settings:
    """The settings that a configuration asks for. No window or interval is longer than a trajectory."""
    halting = Halting(config.halt_q, config.halt_residual, config.halt_patience, config.halt_min_steps)
    depths = sorted(set(config.halt_max_steps or [arch.halt_max_steps]))
    return Settings(
        depths=depths,
        breadth=config.different_init,
        top_k=config.convergence_top_k,
        window=min(config.convergence_window, depths[-1]),
        rows=config.global_batch_size,
        seed=config.seed,
        perturb_std=config.perturb_std,
        loss_type=arch.loss.loss_type,
        learned_halting=arch.learned_halting,
        halting=halting if config.streaming else None,
        agree=config.agree,
        look_interval=min(config.look_interval, depths[-1]),
    )


def most_puzzles(config: EvalConfig) -> int | None:
    """How many puzzles a configuration evaluates at most; None for all."""
    by_steps = config.max_eval_steps and config.max_eval_steps * config.global_batch_size
    return min((limit for limit in (config.max_puzzles, by_steps) if limit is not None), default=None)
