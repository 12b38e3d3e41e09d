"""The settings of an evaluation."""

from dataclasses import dataclass

from config.schema import Arch, EvalConfig
from evaluation.halting import Halting


@dataclass(frozen=True)
class Settings:
    """How to evaluate.

    Args:
        depths: outer iterations to report at; in a streaming evaluation one, the most that a trajectory makes.
        breadth: trajectories a puzzle.
        top_k: how many of the best converged trajectories are kept (None: that selection is not reported).
        window: changes of the logits that the convergence score averages over.
        rows: trajectories that a device works on at a time.
        seed: of all random draws.
        perturb_std: scale of the noise added to the latents once an outer iteration.
        loss_type: the token loss that is reported (config.schema.Loss).
        learned_halting: whether the total loss that is reported has the halting loss in it.
        halting: makes the evaluation a streaming one: a slot whose trajectory has left takes the next.
        agree: streaming: so many halted restarts with the same answer free a puzzle's later ones.
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
    """The settings that a configuration asks for."""
    rule = Halting(config.halt_q, config.halt_residual, config.halt_patience, config.halt_min_steps)
    return Settings(
        depths=sorted(set(config.halt_max_steps or [arch.halt_max_steps])),
        breadth=config.different_init,
        top_k=config.convergence_top_k,
        window=config.convergence_window,
        rows=config.global_batch_size,
        seed=config.seed,
        perturb_std=config.perturb_std,
        loss_type=arch.loss.loss_type,
        learned_halting=arch.learned_halting,
        halting=rule if config.streaming else None,
        agree=config.agree,
        look_interval=config.look_interval,
    )
