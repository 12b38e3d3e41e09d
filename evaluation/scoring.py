"""From trajectories to the numbers that are reported, in parts that add up.

Shapes: T trajectories, N puzzles, M of them with the same number n of trajectories, S tokens.
"""

from collections.abc import Iterator

import numpy as np

from evaluation import metrics, selection
from evaluation.metrics import Sums, Tally
from evaluation.observations import Observation
from evaluation.selection import Candidates
from evaluation.settings import Settings


def tally(
    seen: Observation, labels_NS: np.ndarray, kept_N: np.ndarray, spent_N: np.ndarray, settings: Settings
) -> Tally:
    """What N whole puzzles contribute: each has `kept_N` trajectories in `seen`; `spent_N` iterations were made."""
    sums: Sums = {}
    for name, value_T in seen.values.items():
        there_T = value_T[~np.isnan(value_T)] if name == "residual" else value_T  # a first iteration has none
        sums[f"all/{name}"] = (float(there_T.sum()), len(there_T))
    q_halt_T = np.where(np.isnan(seen.q_halt_R), -np.inf, seen.q_halt_R)  # of a model that overflowed: no confidence
    sums |= metrics.calibration(q_halt_T, seen.values["exact_accuracy"])
    sums["nfe/mean"] = (float(spent_N.sum()), len(spent_N))
    if settings.breadth > 1:
        groups = grouped_by_count(seen, kept_N)
        sums |= metrics.merge([_breadth(candidates, labels_NS[M], settings) for M, _, candidates in groups])
    steps = metrics.histogram(seen.values["steps"].astype(int))
    return Tally(sums, {"all/steps_p95": steps, "nfe/p95": metrics.histogram(spent_N)})


def grouped_by_count(seen: Observation, kept_N: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, Candidates]]:
    """Puzzles [M] with equally many trajectories, which rows of `seen` these are [M, n], and they themselves."""
    first_N = np.cumsum(kept_N) - kept_N
    for n in np.unique(kept_N):
        puzzles_M = np.flatnonzero(kept_N == n)
        rows_Mn = first_N[puzzles_M, None] + np.arange(n)
        steps_Mn = seen.values["steps"][rows_Mn]
        candidates = Candidates(seen.predictions_RS[rows_Mn], seen.scores_R[rows_Mn], seen.q_halt_R[rows_Mn], steps_Mn)
        yield puzzles_M, rows_Mn, candidates


def _breadth(candidates: Candidates, labels_MS: np.ndarray, settings: Settings) -> Sums:
    """What n trajectories of each puzzle reach together, and what each way of choosing among them does."""
    sums = metrics.breadth(candidates.predictions_NBS, labels_MS)
    if settings.agree is not None:  # pass@k takes trajectories for independent of when they ended
        sums = {name: value for name, value in sums.items() if "/pass@" not in name}
    if settings.top_k is not None:
        sums |= metrics.convergence_top_k(candidates.predictions_NBS, labels_MS, candidates.scores_NB, settings.top_k)
    return sums | selection.accuracies(candidates, labels_MS, settings.top_k)


def summary(parts: list[Tally], puzzles: int, settings: Settings) -> dict[str, float]:
    """The metrics of an evaluation from its parts, in the order of the parts."""
    found = metrics.means(metrics.merge([part.sums for part in parts]))
    for name in parts[0].histograms:
        found[name] = metrics.quantile(metrics.merge_histograms([part.histograms[name] for part in parts]), 0.95)
    return found | counts(puzzles, settings)


def counts(puzzles: int, settings: Settings) -> dict[str, float]:
    """How many puzzles and trajectories the metrics are over."""
    found: dict[str, float] = {"puzzles": puzzles}
    if settings.breadth > 1:
        found |= {"different_init/n": settings.breadth, "different_init/total_samples": puzzles}
        found["majority_vote/num_samples"] = puzzles
        if settings.top_k is not None:
            found |= {"convergence_top_k/k": settings.top_k, "convergence_top_k/total_samples": puzzles}
    return found
