"""Selection among trajectories: every rule against its definition. Too short a trajectory never wins."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import metrics
from evaluation.selection import RULES, Candidates, accuracies, select


@st.composite
def candidates(draw) -> Candidates:
    B = draw(st.integers(1, 6))
    column = st.lists(st.integers(0, 2), min_size=B, max_size=B)
    answers = np.array(draw(column), np.int16)[None, :, None]
    scores = np.array([draw(column)], float)
    missing = np.array([draw(st.lists(st.booleans(), min_size=B, max_size=B))])
    steps = np.where(missing, 1, 2 + np.array([draw(column)]))
    return Candidates(answers, np.where(missing, np.nan, scores), np.array([draw(column)], float), steps)


@given(candidates(), st.sampled_from(["convergence", "steps", "majority_top_k"]))
def test_a_trajectory_too_short_for_a_score_is_never_taken_where_another_has_one(case, rule):
    if not np.isnan(case.scores_NB).all():
        k = min(int((~np.isnan(case.scores_NB)).sum()), 3)
        assert not np.isnan(case.scores_NB[0, select(rule, case, k)[0]])


@given(candidates(), st.integers(1, 6))
def test_rules_are_what_they_say(case, k):
    answers, scores = case.predictions_NBS[0, :, 0], np.where(np.isnan(case.scores_NB[0]), np.inf, case.scores_NB[0])
    restarts = range(len(scores))
    k = min(k, len(scores))

    def voted(order: list[int]) -> int:
        votes = Counter(int(answers[b]) for b in order)
        return max(order, key=lambda b: (votes[int(answers[b])], -order.index(b)))

    best = sorted(restarts, key=lambda b: (scores[b], b))[:k]
    expected = {
        "convergence": min(restarts, key=lambda b: (scores[b], b)),
        "q_halt": max(restarts, key=lambda b: (case.q_halt_NB[0, b], -b)),
        "steps": min(restarts, key=lambda b: (scores[b] == np.inf, case.steps_NB[0, b], scores[b], b)),
        "majority": voted(list(restarts)),
        "majority_top_k": voted(best),
    }
    assert expected.keys() == set(RULES)
    for rule, winner in expected.items():
        assert select(rule, case, k).tolist() == [winner], rule


def test_accuracies_agree_with_the_released_metrics():
    rng = np.random.default_rng(0)
    predictions, labels, scores = rng.integers(0, 2, (50, 7, 2)), rng.integers(0, 2, (50, 2)), rng.random((50, 7))
    case = Candidates(predictions, scores, rng.random((50, 7)), np.full((50, 7), 4))
    found = accuracies(case, labels, 3)
    released = metrics.breadth(predictions, labels) | metrics.convergence_top_k(predictions, labels, scores, 3)
    assert found["selection/majority/exact_accuracy"] == released["majority_vote/exact_accuracy"]
    top1 = released["convergence_top_k/cumulative_exact_acc_top1"]
    assert found["selection/convergence/exact_accuracy"] == found["selection/steps/exact_accuracy"] == top1
    assert len(found) == 5 and len(accuracies(case, labels)) == 4


def test_an_unknown_rule_is_named():
    case = Candidates(np.zeros((1, 1, 1)), np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)))
    with pytest.raises(ValueError, match="no selection rule luck"):
        select("luck", case)


# -- calibration and quantiles --------------------------------------------------------------------------------


def test_calibration_by_hand():
    """Confidences 0.9 (right), 0.9 (wrong), 0.1 (right), 0.1 (wrong): each bin is off by 0.4."""
    q = np.log(0.9 / 0.1)
    found = metrics.means(metrics.calibration(np.array([q, q, -q, -q]), np.array([1.0, 0, 1, 0])))
    assert found["all/q_halt_precision"] == 0.5 and found["all/q_halt_recall"] == 0.5
    assert found["all/q_halt_ece"] == pytest.approx(0.4)
    assert set(found) == {"all/q_halt_precision", "all/q_halt_recall", "all/q_halt_ece"}


@given(st.lists(st.integers(1, 20), min_size=1, max_size=40), st.sampled_from([0.05, 0.5, 0.95, 1.0]))
def test_a_quantile_is_the_smallest_value_that_covers_its_share(values, share):
    found = metrics.quantile([Counter(values)], share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9
    assert metrics.quantile([Counter(values[::2]), Counter(values[1::2])], share) == found
