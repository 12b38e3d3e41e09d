"""Halting in training (adaptive computation time): which slots are done, and the target of q_continue."""

import torch
from torch import Tensor

from config.architectures import Arch
from models.reasoner import Readout, Reasoner, State


def halt(state: State, readout: Readout, arch: Arch) -> State:
    """Marks the slots that are done: at `halt_max_steps`, or when q_halt > 0 (HRM: q_halt > q_continue).

    With probability `halt_exploration_prob` a slot draws a minimum of steps from [2, halt_max_steps] and goes on until
    it has made them. Every step draws anew.
    """
    steps, most = state.steps, arch.halt_max_steps
    halted = steps >= most
    if most > 1 and arch.learned_halting:
        halted = halted | (readout.q_halt > (readout.q_continue if arch.q_continue else 0.0))
        explores = torch.rand(steps.shape, device=steps.device) < arch.halt_exploration_prob
        minimum = torch.randint(2, most + 1, steps.shape, device=steps.device)
        halted = halted & (steps >= torch.where(explores, minimum, 0))
    return state._replace(halted=halted)


def continue_target(model: Reasoner, state: State, arch: Arch) -> Tensor:
    """The target of q_continue [B]: the probability of being right after one more iteration, or later.

    It is sigmoid(q_halt') on the last step, and sigmoid(max(q_halt', q_continue')) before. The prime stands for one
    more outer iteration without gradient. This is HRM's Q-learning, without replay or a target network.
    """
    with torch.no_grad():
        _, following = model.advance(state)
        best = torch.maximum(following.q_halt, following.q_continue)
        return torch.where(state.steps >= arch.halt_max_steps, following.q_halt, best).sigmoid()
