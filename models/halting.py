"""Halting in training (adaptive computation time): which slots are done, and what q_continue should learn."""

import torch
from torch import Tensor

from config.schema import Arch
from models.reasoner import Readout, Reasoner, State


def halt(state: State, readout: Readout, arch: Arch) -> State:
    """Marks the slots that are done: at `halt_max_steps`, or when q_halt > 0 (HRM: > q_continue).

    With probability `halt_exploration_prob`, drawn anew at every step, a slot goes on unless it has made a number of
    steps drawn from [2, halt_max_steps].
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
    """What q_continue should say [B]: the probability of being right after one more iteration, or later.

    sigmoid(q_halt') on the last step, sigmoid(max(q_halt', q_continue')) before, where ' is one more outer
    iteration without gradient (HRM's Q-learning, without replay or target network).
    """
    with torch.no_grad():
        _, following = model.advance(state)
        best = torch.maximum(following.q_halt, following.q_continue)
        return torch.where(state.steps >= arch.halt_max_steps, following.q_halt, best).sigmoid()
