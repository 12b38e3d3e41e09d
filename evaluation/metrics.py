"""Metrics as (sum, count) pairs, so that parts of an evaluation add up and are divided once, at the end.

Names are those of the released programs. Shapes: N puzzles, B trajectories a puzzle, S tokens.
"""

import math

import numpy as np

Sums = dict[str, tuple[float, float]]
"""name -> (sum, count)"""


def merge(parts: list[Sums]) -> Sums:
    """Adds up sums and counts, in order."""
    total: Sums = {}
    for part in parts:
        for name, (value, count) in part.items():
            before = total.get(name, (0.0, 0.0))
            total[name] = (before[0] + value, before[1] + count)
    return total


def means(sums: Sums) -> dict[str, float]:
    """sum / count; NaN where nothing was counted."""
    return {name: value / count if count else math.nan for name, (value, count) in sums.items()}


def pass_at_k(n: int, right: int, k: int) -> float:
    """The unbiased estimate 1 - C(n-c, k) / C(n, k) of "one of k trajectories is right" from c of n."""
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def exact(predictions_NBS: np.ndarray, labels_NS: np.ndarray) -> np.ndarray:
    """Whether all scored tokens are right [N, B]; labels below 0 are not scored."""
    labels = labels_NS[:, None]
    return np.asarray(((predictions_NBS == labels) | (labels < 0)).all(-1))


def majority(answers_BS: np.ndarray) -> int:
    """The trajectory whose whole answer most trajectories give; on a tie, the answer that appeared first."""
    rows = np.ascontiguousarray(answers_BS)
    as_one = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
    _, group, counts = np.unique(as_one, return_inverse=True, return_counts=True)
    return int(np.argmax(counts[group]))


def _pass_at(prefix: str, exact_NB: np.ndarray) -> Sums:
    N, n = exact_NB.shape
    right = exact_NB.sum(1)
    powers = [2**i for i in range(n.bit_length()) if 2**i < n]
    return {f"{prefix}/pass@{k}": (sum(pass_at_k(n, int(c), k) for c in right), N) for k in powers}


def breadth(predictions_NBS: np.ndarray, labels_NS: np.ndarray) -> Sums:
    """What the trajectories reach together: pass rates and the majority vote."""
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
    """Trajectories [N, k] with the lowest scores, best first. NaN, no score, comes last; ties keep their order."""
    return np.argsort(np.where(np.isnan(scores_NB), np.inf, scores_NB), axis=1, kind="stable")[:, :k]


def convergence_top_k(predictions_NBS: np.ndarray, labels_NS: np.ndarray, scores_NB: np.ndarray, k: int) -> Sums:
    """What the k best converged trajectories of each puzzle reach."""
    chosen_Nk = best_converged(scores_NB, k)
    exact_Nk = np.take_along_axis(exact(predictions_NBS, labels_NS), chosen_Nk, axis=1)
    scores_Nk = np.take_along_axis(scores_NB, chosen_Nk, axis=1)
    N = len(exact_Nk)
    name = "convergence_top_k"
    return {
        f"{name}/exact_accuracy": (float(exact_Nk.sum()) / k, N),
        f"{name}/any_correct": (float(exact_Nk.any(1).sum()), N),
        f"{name}/avg_convergence_score": (float(scores_Nk.sum()), N * k),
        **_pass_at(name, exact_Nk),
        **{f"{name}/cumulative_exact_acc_top{j}": (float(exact_Nk[:, :j].sum()) / j, N) for j in range(1, k + 1)},
    }
