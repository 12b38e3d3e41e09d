"""Selects one of a puzzle's trajectories without knowing the answer.

Shapes: N puzzles, B trajectories per puzzle, S tokens.
"""

from typing import NamedTuple

import numpy as np

from evaluation.metrics import Sums, best_converged, exact, majority

RULES = ("convergence", "q_halt", "steps", "majority", "majority_top_k")


class Candidates(NamedTuple):
    """The trajectories to select from."""

    predictions_NBS: np.ndarray
    scores_NB: np.ndarray  # NaN after a single iteration
    q_halt_NB: np.ndarray
    steps_NB: np.ndarray


def select(rule: str, candidates: Candidates, k: int | None = None) -> np.ndarray:
    """The trajectory that `rule` selects for each puzzle [N].

    - convergence: the lowest score;
    - q_halt: the highest halting logit;
    - steps: the fewest iterations, then the lowest score;
    - majority: the most frequent answer, then the one that appeared first;
    - majority_top_k: the most frequent answer of the k best converged, then the one that converged best.

    Where scores or iterations decide, a trajectory too short for a score comes last. Remaining ties go to the earlier
    restart.
    """
    predictions_NBS, scores_NB, q_halt_NB, steps_NB = candidates
    puzzles = np.arange(len(scores_NB))
    match rule:
        case "convergence":
            return best_converged(scores_NB, 1)[:, 0]
        case "q_halt":
            return np.argmax(np.where(np.isnan(q_halt_NB), -np.inf, q_halt_NB), axis=1)
        case "steps":
            missing_NB = np.isnan(scores_NB)
            scores_NB = np.where(missing_NB, np.inf, scores_NB)
            return np.lexsort((scores_NB, steps_NB, missing_NB), axis=1)[:, 0]
        case "majority":
            return np.array([majority(answers) for answers in predictions_NBS])
        case "majority_top_k":
            assert k is not None
            best_Nk = best_converged(scores_NB, k)
            ranked_NkS = np.take_along_axis(predictions_NBS, best_Nk[:, :, None], axis=1)
            places_N = np.array([majority(answers) for answers in ranked_NkS])
            return best_Nk[puzzles, places_N]
    raise ValueError(f"there is no selection rule {rule} (one of: {', '.join(RULES)})")


def accuracies(candidates: Candidates, labels_NS: np.ndarray, k: int | None = None) -> Sums:
    """`selection/RULE/exact_accuracy` of every rule. Without k, `majority_top_k` is left out."""
    exact_NB = exact(candidates.predictions_NBS, labels_NS)
    N = len(exact_NB)
    selected = {rule: select(rule, candidates, k) for rule in RULES if rule != "majority_top_k" or k is not None}
    return {
        f"selection/{rule}/exact_accuracy": (float(exact_NB[np.arange(N), index_N].sum()), N)
        for rule, index_N in selected.items()
    }
