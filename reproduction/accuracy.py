"""Exact accuracies of recorded evaluations, as shares from 0 to 1, with their errors."""

import math
from typing import NamedTuple

from evaluation.metrics import standard_error
from reproduction.records import STARTS_STD, Evaluation


class Rule(NamedTuple):
    """Which of a puzzle's starts answers."""

    words: str
    metric: str  # its exact accuracy


HIGHEST_Q_HALT = Rule("highest q_halt", "selection/q_halt/exact_accuracy")
MAJORITY = Rule("majority", "selection/majority/exact_accuracy")
BEST_CONVERGED = Rule("best converged", "convergence_top_k/cumulative_exact_acc_top1")
MEAN = Rule("mean", "all/exact_accuracy")


def rule(evaluation: Evaluation) -> Rule:
    """Which start answers: of several the best converged, if the evaluation has a `convergence_top_k`.

    In a streaming evaluation the majority answers. There a start leaves once it is sure, and is still moving. So it
    converges worse than a start that settled on a wrong answer. With `perturb_std` noise keeps all starts moving, and
    the highest q_halt answers.
    """
    settings = evaluation.settings
    if settings.different_init == 1:
        return MEAN
    if settings.perturb_std:
        return HIGHEST_Q_HALT
    if settings.streaming:
        return MAJORITY
    return BEST_CONVERGED if settings.convergence_top_k else MEAN


def metric(evaluation: Evaluation, depth: int, name: str) -> float:
    """A metric at a depth. Raises ValueError if it was not measured."""
    value = evaluation.metrics[depth].get(name)
    if value is None:
        raise ValueError(f"an evaluation on {evaluation.dataset} has no {name} at depth {depth}")
    return float(value)


def exact(evaluation: Evaluation, depth: int) -> float:
    """Exact accuracy at a depth, of a single start or by the evaluation's `rule`."""
    return metric(evaluation, depth, rule(evaluation).metric)


def selection(evaluation: Evaluation) -> str:
    """Which answers `exact` counts, in words."""
    settings = evaluation.settings
    breadth, std = settings.different_init, settings.different_init_reset_std
    perturbed = f", perturbed by {settings.perturb_std:g}" if settings.perturb_std else ""
    if breadth == 1:
        return "one start" + perturbed
    starts = "" if std in (STARTS_STD, None) else f" starts of std {std:g}"
    return f"{rule(evaluation).words} of {breadth}{starts}{perturbed}"


def chance(share: float, puzzles: int, other: float, others: int) -> float:
    """The probability of a difference so large if both shares measure the same: Fisher's exact test, two-sided."""

    def log_ways(of: int, chosen: int) -> float:
        return math.lgamma(of + 1) - math.lgamma(chosen + 1) - math.lgamma(of - chosen + 1)

    solved = round(share * puzzles)
    both = solved + round(other * others)
    possible = range(max(0, both - others), min(puzzles, both) + 1)
    logs = {
        count: log_ways(puzzles, count) + log_ways(others, both - count) - log_ways(puzzles + others, both)
        for count in possible
    }
    return min(1.0, math.fsum(math.exp(log) for log in logs.values() if log <= logs[solved] + 1e-6))


def bound(puzzles: int) -> float:
    """The least share that holds with 95% confidence if all of so many puzzles are solved."""
    return float(0.05 ** (1 / puzzles))


def percent(share: float, puzzles: int) -> str:
    """Such as "93.02 ± 0.23", in percent; if all or none are solved, with a bound of 95% confidence."""
    if share in (0, 1):
        least = 100 * bound(puzzles)
        return f"100.00 (> {least:.2f})" if share else f"0.00 (< {100 - least:.2f})"
    return f"{100 * share:.2f} ± {100 * standard_error(share, puzzles):.2f}"
