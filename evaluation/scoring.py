"""From trajectories to the metrics that are reported, in parts that add up.

Shapes: T trajectories, N puzzles, M puzzles with the same number n of trajectories, S tokens.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from dataset.puzzles import UNANSWERED
from evaluation import metrics, selection
from evaluation.metrics import Sums, Tally
from evaluation.observations import Observation
from evaluation.selection import Candidates
from evaluation.settings import Settings

COMPARED = ("accuracy", "exact_accuracy", "q_halt_accuracy", "lm_loss", "q_halt_loss", "total_loss")
"""Values of a trajectory that compare it with the answer."""


def tally(
    observation: Observation, labels_NS: np.ndarray, kept_N: np.ndarray, spent_N: np.ndarray, settings: Settings
) -> Tally:
    """What N whole puzzles contribute to the metrics.

    Args:
        observation: their trajectories, puzzle by puzzle.
        labels_NS: their answers; of an unknown one all is `UNANSWERED`.
        kept_N: how many trajectories each has.
        spent_N: how many iterations were made for each.
        settings: how they were evaluated.
    """
    sums: Sums = {}
    known_N = (labels_NS != UNANSWERED).any(1)
    known_T = np.repeat(known_N, kept_N)
    for name, value_T in observation.values.items():
        counted_T = value_T[known_T] if name in COMPARED else value_T
        counted_T = counted_T[~np.isnan(counted_T)] if name == "residual" else counted_T  # a first iteration has none
        sums[f"all/{name}"] = (float(counted_T.sum()), len(counted_T))
    q_halt_T = np.where(np.isnan(observation.q_halt_R), -np.inf, observation.q_halt_R)  # overflow means no confidence
    sums |= metrics.calibration(q_halt_T[known_T], observation.values["exact_accuracy"][known_T])
    sums["nfe/mean"] = (float(spent_N.sum()), len(spent_N))
    if settings.breadth > 1:
        groups = grouped_by_count(observation, kept_N)
        sums |= metrics.merge([_breadth(candidates, labels_NS[M], settings, known_N[M]) for M, _, candidates in groups])
    steps_T = observation.values["steps"].astype(int)
    return Tally(sums, {"all/steps_p95": Counter(steps_T.tolist()), "nfe/p95": Counter(spent_N.tolist())})


def grouped_by_count(
    observation: Observation, kept_N: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, Candidates]]:
    """Groups puzzles by their number of trajectories.

    Yields:
        The puzzles [M], the rows of `observation` with their trajectories [M, n], and the trajectories themselves.
    """
    first_N = np.cumsum(kept_N) - kept_N
    for n in np.unique(kept_N):
        puzzles_M = np.flatnonzero(kept_N == n)
        rows_Mn = first_N[puzzles_M, None] + np.arange(n)
        yield (
            puzzles_M,
            rows_Mn,
            Candidates(
                observation.predictions_RS[rows_Mn],
                observation.scores_R[rows_Mn],
                observation.q_halt_R[rows_Mn],
                observation.values["steps"][rows_Mn],
            ),
        )


def _breadth(candidates: Candidates, labels_MS: np.ndarray, settings: Settings, known_M: np.ndarray) -> Sums:
    """Metrics of the n trajectories of each puzzle together, and of every way to select one.

    Only the puzzles with a known answer count. Without any, all counts are 0.
    """
    if not known_M.any():
        return dict.fromkeys(_breadth(candidates, labels_MS, settings, ~known_M), (0.0, 0.0))
    candidates, labels_MS = Candidates(*(values[known_M] for values in candidates)), labels_MS[known_M]
    sums = metrics.breadth(candidates.predictions_NBS, labels_MS)
    if settings.agree is not None:  # pass@k would need trajectories that do not depend on when others end
        sums = {name: value for name, value in sums.items() if "/pass@" not in name}
    if settings.top_k is not None:
        sums |= metrics.convergence_top_k(candidates.predictions_NBS, labels_MS, candidates.scores_NB, settings.top_k)
    return sums | selection.accuracies(candidates, labels_MS, settings.top_k)


def summary(parts: list[Tally], puzzles: int, settings: Settings) -> dict[str, float]:
    """The metrics of an evaluation from the tallies of its parts, added up in this order.

    A model that never learned to halt has none of q_halt, which means nothing then.
    """
    values = metrics.means(metrics.merge([part.sums for part in parts]))
    for name in parts[0].histograms:
        values[name] = metrics.quantile([part.histograms[name] for part in parts], 0.95)
    if not settings.learned_halting:
        values = {name: value for name, value in values.items() if "q_halt" not in name}
    return values | counts(puzzles, settings)


def counts(puzzles: int, settings: Settings) -> dict[str, float]:
    """How many puzzles and trajectories the metrics are over."""
    values: dict[str, float] = {"puzzles": puzzles}
    if settings.breadth > 1:
        values |= {"different_init/n": settings.breadth, "different_init/total_samples": puzzles}
        values["majority_vote/num_samples"] = puzzles
        if settings.top_k is not None:
            values |= {"convergence_top_k/k": settings.top_k, "convergence_top_k/total_samples": puzzles}
    return values
