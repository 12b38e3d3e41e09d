"""Metrics as (sum, count) pairs: parts of an evaluation add up, and one division at the end gives the means.

Names are the released programs' names. Shapes: N puzzles, B trajectories per puzzle, S tokens.
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

Sums = dict[str, tuple[float, float]]
"""name -> (sum, count)"""

Histogram = dict[int, int]
"""value -> how often"""

BINS = 10
"""Bins of confidence for the calibration error."""
_GAP = "_calibration_gap/"


class Tally(NamedTuple):
    """What a part of an evaluation contributes: sums, and distributions for the quantiles."""

    sums: Sums
    histograms: dict[str, Histogram]


def merge(parts: list[Sums]) -> Sums:
    """Adds up sums and counts, in order."""
    total: Sums = {}
    for part in parts:
        for name, (value, count) in part.items():
            before = total.get(name, (0.0, 0.0))
            total[name] = (before[0] + value, before[1] + count)
    return total


def means(sums: Sums) -> dict[str, float]:
    """sum / count, or NaN for a count of 0. Calibration gaps become `all/q_halt_ece`."""
    gaps = [sums[name] for name in sums if name.startswith(_GAP)]
    metrics = {name: value / count if count else math.nan for name, (value, count) in sums.items() if _GAP not in name}
    if gaps:
        metrics["all/q_halt_ece"] = sum(abs(gap) for gap, _ in gaps) / sum(count for _, count in gaps)
    elif "all/q_halt_recall" in sums:
        metrics["all/q_halt_ece"] = math.nan
    return metrics


def quantile(parts: Iterable[Histogram], share: float) -> float:
    """The smallest value v for which at least this share of the values of all parts is at most v."""
    counts = sum(map(Counter, parts), Counter[int]())
    values = sorted(counts)
    reached = np.cumsum([counts[value] for value in values])
    return float(values[np.searchsorted(reached, share * reached[-1])])


def standard_error(share: float, puzzles: int) -> float:
    """The binomial standard error of a share of so many puzzles."""
    return math.sqrt(share * (1 - share) / puzzles)


def calibration(q_halt_R: np.ndarray, right_R: np.ndarray) -> Sums:
    """How well q_halt predicts a right answer: precision and recall of q_halt >= 0, and the calibration error.

    The calibration error (ECE) bins trajectories by confidence, sigmoid(q_halt). It is the mean distance between
    confidence and accuracy over ten equal bins, weighted by the number of trajectories in each.
    """
    right_R = right_R.astype(bool)
    sure_R = q_halt_R >= 0
    both = float((sure_R & right_R).sum())
    confidence_R = 0.5 + 0.5 * np.tanh(q_halt_R / 2)
    bins_R = np.minimum((confidence_R * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins_R, weights=confidence_R - right_R, minlength=BINS)
    counts = np.bincount(bins_R, minlength=BINS)
    return {
        "all/q_halt_precision": (both, float(sure_R.sum())),
        "all/q_halt_recall": (both, float(right_R.sum())),
        **{f"{_GAP}{i}": (float(gaps[i]), int(counts[i])) for i in range(BINS) if counts[i]},
    }


def pass_at_k(n: int, right: int, k: int) -> float:
    """The unbiased estimate 1 - C(n-c, k) / C(n, k) that one of k trajectories is right, if c of n are."""
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def exact(predictions_NBS: np.ndarray, labels_NS: np.ndarray) -> np.ndarray:
    """Whether all scored tokens are right, bool [N, B]. Labels below 0 are not scored."""
    labels = labels_NS[:, None]
    return np.asarray(((predictions_NBS == labels) | (labels < 0)).all(-1))


def majority(answers_BS: np.ndarray) -> int:
    """The first trajectory with the most frequent whole answer; on a tie, the answer that appeared first."""
    rows = np.ascontiguousarray(answers_BS)
    as_one = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
    _, group, counts = np.unique(as_one, return_inverse=True, return_counts=True)
    return int(np.argmax(counts[group]))


def _pass_at(prefix: str, exact_NB: np.ndarray) -> Sums:
    N, n = exact_NB.shape
    right = exact_NB.sum(1)
    powers = [2**i for i in range(n.bit_length()) if 2**i < n]
    # np.cumsum adds one after the other; Python's own sum stopped doing so after 3.11
    return {f"{prefix}/pass@{k}": (float(np.cumsum([pass_at_k(n, int(c), k) for c in right])[-1]), N) for k in powers}


def breadth(predictions_NBS: np.ndarray, labels_NS: np.ndarray) -> Sums:
    """Metrics of all trajectories of a puzzle together: pass rates and the majority vote."""
    exact_NB = exact(predictions_NBS, labels_NS)
    N, B = exact_NB.shape
    winners = np.array([majority(answers) for answers in predictions_NBS])
    voted_NS = predictions_NBS[np.arange(N), winners]
    voted_right = float(exact_NB[np.arange(N), winners].sum())
    scored = labels_NS >= 0
    return {
        "different_init/avg_pass_rate": (float(exact_NB.sum()) / B, N),
        "different_init/any_correct": (float(exact_NB.any(1).sum()), N),
        "different_init/majority_vote_acc": (voted_right, N),
        "majority_vote/exact_accuracy": (voted_right, N),
        "majority_vote/accuracy": (float(((voted_NS == labels_NS) & scored).sum()), float(scored.sum())),
        **_pass_at("different_init", exact_NB),
    }


def best_converged(scores_NB: np.ndarray, k: int) -> np.ndarray:
    """The k trajectories with the lowest scores [N, k], best first. NaN, no score, is last; ties keep their order."""
    return np.argsort(np.where(np.isnan(scores_NB), np.inf, scores_NB), axis=1, kind="stable")[:, :k]


def convergence_top_k(predictions_NBS: np.ndarray, labels_NS: np.ndarray, scores_NB: np.ndarray, k: int) -> Sums:
    """Metrics of the k best converged trajectories of each puzzle."""
    chosen_Nk = best_converged(scores_NB, k)
    exact_Nk = np.take_along_axis(exact(predictions_NBS, labels_NS), chosen_Nk, axis=1)
    scores_Nk = np.take_along_axis(scores_NB, chosen_Nk, axis=1)
    N = len(exact_Nk)
    name = "convergence_top_k"
    return {
        f"{name}/exact_accuracy": (float(exact_Nk.sum()) / k, N),
        f"{name}/any_correct": (float(exact_Nk.any(1).sum()), N),
        f"{name}/avg_convergence_score": (float(np.nansum(scores_Nk)), int((~np.isnan(scores_Nk)).sum())),
        **_pass_at(name, exact_Nk),
        **{f"{name}/cumulative_exact_acc_top{j}": (float(exact_Nk[:, :j].sum()) / j, N) for j in range(1, k + 1)},
    }
