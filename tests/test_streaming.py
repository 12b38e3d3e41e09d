"""Streaming evaluation: the pool does not change the results, and every rule fires when it should."""

import gc
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st
from test_evaluation import ALONE, golden_model, partly_solved  # noqa: F401

from benchmarks import compute_curve
from config.load import load_eval, load_pretrain
from dataset.puzzles import evenly_spread
from evaluation import slots
from evaluation.engine import TorchEngine
from evaluation.halting import Halting
from evaluation.scoring import tally
from evaluation.settings import Settings, settings_for
from evaluation.slots import Slots, fresh, iterate
from evaluation.streaming import Agreement, Stream
from evaluation.trajectory import Starts, trajectory
from evaluation.units import evaluate

RULES = {
    "q_halt": Halting(q=0.8, min_steps=3),
    "residual": Halting(residual=1.2, patience=2),
    "both": Halting(q=0.8, residual=2.5, patience=1, min_steps=4),
}
PLAIN = Settings([9], breadth=3, top_k=2, rows=8)


@pytest.fixture(scope="module")
def eqr(partly_solved):  # noqa: F811
    """An EqR without noise from random starts, damped, with a rising halting logit, and its puzzles."""
    words = ("lambda_=0.3", "noise_scale=0", "H_init_std=1", "L_init_std=1")
    model, puzzles = golden_model("eqr", *words, puzzles=partly_solved)
    torch.manual_seed(1)
    torch.nn.init.normal_(model.q_head.weight)
    torch.nn.init.zeros_(model.q_head.bias)
    model.q_head.weight.data.neg_()
    return model.eval(), puzzles


def close(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether metrics are equal up to rounding, which may change with a row's position in a batch."""
    return all(
        (math.isnan(value) and math.isnan(other[name])) or math.isclose(value, other[name], rel_tol=1e-4, abs_tol=1e-5)
        for name, value in one.items()
    )


def stream(model, puzzles, examples_N, settings: Settings) -> Stream:
    pool = TorchEngine(model, model.core.start, puzzles, settings).pool(0, settings.rows)
    return Stream(pool, settings.rows, examples_N, 0, settings)


def streamed(model, puzzles, settings: Settings):
    examples_N = evenly_spread(len(puzzles), None)
    return stream(model, puzzles, examples_N, settings).run(lambda _: None)


# -- a pool and a plain run -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 8, 1000])
def test_without_a_rule_the_results_are_those_of_the_plain_evaluation(eqr, rows):
    plain = evaluate(*eqr, PLAIN, ALONE)[9]
    found = evaluate(*eqr, replace(PLAIN, rows=rows, halting=Halting()), ALONE)[9]
    assert 0 < plain["all/exact_accuracy"] < 1, "the case should tell right from wrong"
    assert found.keys() - plain.keys() == {"all/forced", "nfe/abandoned", "nfe/busy"} and plain.keys() <= found.keys()
    assert close(plain, found)
    assert found["all/forced"] == 1 and found["nfe/abandoned"] == 0 and found["nfe/mean"] == 27
    assert 0 < found["nfe/busy"] <= 1


@pytest.mark.parametrize("rule", RULES)
def test_every_trajectory_is_as_it_was_when_its_rule_fired(eqr, rule):
    """Compares with each trajectory alone, run to the end, at the iteration where the rule should fire."""
    model, puzzles = eqr
    halting = RULES[rule]
    seen = streamed(model, puzzles, replace(PLAIN, halting=halting)).observation
    found = set()
    for puzzle in range(len(puzzles)):
        for restart in range(3):
            latents = Starts(model.core.start, 0)(np.array([puzzle]), np.array([restart]), ALONE.device)
            calm, batch = 0, puzzles.rows(np.array([puzzle]))
            iterations = trajectory(model, batch, 9, 0.0, latents, PLAIN.window)
            for step, iteration in enumerate(iterations, 1):
                readout = iteration.readout
                small = halting.residual and step > 1 and float(iteration.residual_R) < halting.residual
                calm = calm + 1 if small else 0
                sure = halting.q is None or float(readout.q_halt.sigmoid()) > halting.q
                settled = halting.residual is None or calm >= halting.patience
                if fired := step >= halting.min_steps and sure and settled:
                    break
            row = puzzle * 3 + restart
            assert seen.values["steps"][row] == step and seen.values["forced"][row] == (not fired)
            assert (seen.predictions_RS[row] == readout.logits[0].argmax(-1).numpy()).all()
            assert seen.scores_R[row] == pytest.approx(float(iteration.score_R), rel=1e-3)
            assert seen.q_halt_R[row] == pytest.approx(float(readout.q_halt), rel=1e-3, abs=1e-4)
            found.add(step)
    assert len(found) > 1, "the case should halt at several iterations"


@pytest.mark.parametrize("rule", ["residual", "both"])
def test_neither_the_looks_nor_the_slots_show(eqr, rule):
    settings = replace(PLAIN, halting=RULES[rule])
    first = evaluate(*eqr, settings, ALONE)[9]
    for look_interval, rows in ((1, 8), (5, 5), (64, 100)):
        other = evaluate(*eqr, replace(settings, look_interval=look_interval, rows=rows), ALONE)[9]
        assert close({name: value for name, value in first.items() if name != "nfe/busy"}, other)


def test_no_look_or_window_is_longer_than_a_trajectory(eqr):
    """However large the keys are, no iteration is made for nothing, and no memory held."""
    words = ["checkpoint=none", "streaming=true", "halt_max_steps=4", "different_init=2"]
    huge = load_eval([*words, "look_interval=2147483647", "convergence_window=2147483647"])
    wide = load_eval([*words, "look_interval=4", "convergence_window=4"])
    arch = load_pretrain(["train=quickstart"]).arch
    assert settings_for(huge, arch) == settings_for(wide, arch)
    model, puzzles = eqr
    found = evaluate(model, puzzles, settings_for(huge, arch), ALONE, 5)[4]
    assert found["nfe/busy"] == 1 and found["all/steps"] == 4


def test_the_pool_shrinks_once_nothing_follows(eqr, monkeypatch):
    sizes = []

    def counting(model, slots, settings):
        sizes.append((len(slots.fired), int((~slots.state.halted).sum())))
        return iterate(model, slots, settings)

    monkeypatch.setattr(slots, "iterate", counting)
    found = evaluate(*eqr, replace(PLAIN, halting=RULES["q_halt"], rows=16, look_interval=1), ALONE)[9]
    counts = [size for size, _ in sizes]
    assert counts[0] == 16 and counts == sorted(counts, reverse=True) and set(counts) <= {16, 4, 1} and min(counts) < 16
    assert all(4 * running > size or size < 4 for size, running in sizes)
    assert found["nfe/busy"] == pytest.approx(found["nfe/mean"] * 11 / sum(counts))


def test_the_starts_of_a_puzzle_do_not_depend_on_breadth(eqr):
    model, _ = eqr
    starts, wanted = Starts(model.core.start, 3), (np.array([70, 2, 70, 64]), np.array([1, 0, 0, 1]))
    together = starts(*wanted, ALONE.device)
    before = torch.get_rng_state()
    alone = [starts(wanted[0][i : i + 1], wanted[1][i : i + 1], ALONE.device) for i in range(4)]
    assert torch.equal(before, torch.get_rng_state())
    for z, rows in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.equal(z, torch.cat(rows))
        assert len({tuple(row.flatten()[:4].tolist()) for row in z}) == 4


def test_a_slot_that_has_halted_does_not_change(eqr):
    model, puzzles = eqr
    settings = replace(PLAIN, halting=RULES["q_halt"])
    latents = Starts(model.core.start, 0)(np.arange(8), np.zeros(8, int), ALONE.device)
    slots = fresh(model, puzzles.rows(np.arange(8)), latents, 3)
    with torch.no_grad():
        for _ in range(12):
            before, slots = slots, iterate(model, slots, settings)
            halted = before.state.halted
            for old, new in zip(_tensors(before), _tensors(slots), strict=True):
                assert torch.equal(old[halted].nan_to_num(-1), new[halted].nan_to_num(-1))
    assert slots.state.halted.all() and slots.state.steps.unique().numel() > 1


@pytest.mark.parametrize("threshold, calm", [(1e-9, 0), (1e9, 6)])
def test_calm_iterations_count_only_in_a_row(eqr, threshold, calm):
    model, puzzles = eqr
    settings = replace(PLAIN, halting=Halting(residual=threshold, patience=6))
    slots = fresh(
        model, puzzles.rows(np.arange(4)), Starts(model.core.start, 0)(np.arange(4), np.zeros(4, int), ALONE.device), 3
    )
    with torch.no_grad():
        slots = iterate(model, slots, settings)
        slots = iterate(model, slots._replace(calm=torch.full_like(slots.calm, 5)), settings)
    assert slots.calm.tolist() == [calm] * 4 and slots.fired.tolist() == [calm == 6] * 4


def _tensors(slots: Slots) -> list[torch.Tensor]:
    state, readout, *rest = slots
    return [*state.latents, *state[1:], *readout, *rest]


def test_memory_does_not_depend_on_depth_breadth_or_puzzles(eqr):
    """Counts the elements of all float tensors made here that are alive while the host looks."""
    model, puzzles = eqr
    gc.freeze()  # the collector passes over what is older
    most = []
    for depth, breadth, count in ((4, 1, 8), (16, 3, 11)):
        settings = Settings([depth], breadth=breadth, rows=8, halting=Halting(), look_interval=4)
        peak = 0

        def watch(_):
            nonlocal peak
            gc.collect()
            tensors = {t.data_ptr(): t for t in gc.get_objects() if type(t) is torch.Tensor and t.is_floating_point()}
            peak = max(peak, sum(t.numel() for t in tensors.values()))

        stream(model, puzzles, np.arange(count), settings).run(watch)
        most.append(peak)
    gc.unfreeze()
    assert most[1] <= 1.01 * most[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_iteration_does_not_wait_for_the_device(eqr):
    model, puzzles = (part for part in golden_model("eqr", "noise_scale=0.01"))
    model.to("cuda")
    batch = type(puzzles.rows(np.arange(2)))(*(t.cuda() for t in puzzles.rows(np.arange(2))))
    slots = fresh(model, batch, model.core.start(2), 3)
    iterate(model, slots, replace(PLAIN, halting=RULES["both"]))
    torch.cuda.set_sync_debug_mode("error")
    try:
        iterate(model, slots, replace(PLAIN, halting=RULES["both"]))
    finally:
        torch.cuda.set_sync_debug_mode("default")


# -- breadth that ends early ----------------------------------------------------------------------------------


def counted(answers: list[bytes | None], agree: int) -> int:
    """How many restarts count, by definition."""
    for n in range(1, len(answers) + 1):
        votes = Counter(answer for answer in answers[:n] if answer is not None)
        if votes and max(votes.values()) >= agree:
            return n
    return len(answers)


@given(st.lists(st.sampled_from([b"a", b"b", b"c", None]), min_size=1, max_size=8), st.integers(1, 4), st.randoms())
@trials(max_examples=200)
def test_what_counts_does_not_depend_on_who_ends_first(answers, agree, random):
    order = list(range(len(answers)))
    random.shuffle(order)
    agreement = Agreement(1, len(answers), agree)
    for restart in order:
        agreement.add(0, restart, answers[restart])
    assert agreement.kept_N[0] == counted(answers, agree)


def test_what_is_freed_leaves_the_queue():
    agreement = Agreement(2, 3, 1)
    queue = agreement.queue()
    assert [next(queue), next(queue)] == [(0, 0), (1, 0)]
    agreement.add(0, 0, b"a")
    assert list(queue) == [(1, 1), (1, 2)]


@pytest.mark.parametrize("rows, look_interval", [(4, 2), (33, 1), (9, 7)])
def test_early_exit_keeps_the_first_restarts_and_their_answers(eqr, rows, look_interval):
    model, puzzles = eqr
    settings = Settings(
        [9], breadth=6, rows=rows, look_interval=look_interval, halting=Halting(residual=2.0, patience=1)
    )
    full, early = streamed(model, puzzles, settings), streamed(model, puzzles, replace(settings, agree=2))
    answers_NBS = full.observation.predictions_RS.reshape(11, 6, -1)
    forced_NB = full.observation.values["forced"].reshape(11, 6)
    expected = [
        counted([None if gone else a.tobytes() for a, gone in zip(*row, strict=True)], 2)
        for row in zip(answers_NBS, forced_NB, strict=True)
    ]
    assert early.kept_N.tolist() == expected and 2 <= min(expected) < 6
    kept = np.concatenate([answers_NBS[n, :k] for n, k in enumerate(expected)])
    assert (early.observation.predictions_RS == kept).all()
    assert early.spent_N.sum() < full.spent_N.sum()


def test_early_exit_adds_up(eqr):
    settings = replace(PLAIN, breadth=6, agree=2, halting=Halting(residual=2.0, patience=1), top_k=2)
    found = evaluate(*eqr, settings, ALONE)[9]
    rate = found["all/steps"]
    assert 2 * rate < found["nfe/mean"] * 1.5 and found["nfe/mean"] < 6 * rate
    assert 0 <= found["nfe/abandoned"] < 1 and 0 < found["nfe/busy"] <= 1
    assert found["selection/majority/exact_accuracy"] == found["majority_vote/exact_accuracy"]
    assert found["selection/convergence/exact_accuracy"] == found["convergence_top_k/cumulative_exact_acc_top1"]
    assert not [name for name in found if name.startswith("different_init/pass@")]


def test_the_benchmark_names_the_cheapest_point_that_is_as_accurate(tmp_path):
    def point(depth, halt_q, accuracy, nfe, seconds):
        values = {"depth": depth, "halt_q": halt_q, "accuracy": accuracy, "nfe": nfe, "seconds": seconds}
        return values | {"error": 0.01}

    points = {
        "plain": [point(1, None, 0.5, 8, 1), point(8, None, 0.9, 64, 8)],
        "streaming": [point(8, 0.5, 0.8, 8, 2), point(8, 0.9, 0.89, 16, 2), point(8, 0.99, 0.9, 32, 4)],
        "early exit": [],
    }
    _, plain, streaming, early = compute_curve.verdict(points)
    assert "plain, depth 8: 100.0% of its NFE" in plain and "not run" in early
    assert streaming.endswith("halt_q 0.9: 25.0% of its NFE, 25.0% of its time")
    compute_curve.draw(points, "title", tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_a_residual_that_is_not_there_does_not_count(eqr):
    rule = Halting(q=1e-9, min_steps=1)
    found = evaluate(*eqr, replace(PLAIN, halting=rule), ALONE)[9]
    assert found["all/steps"] == 1 and math.isnan(found["all/residual"])
    seen = streamed(*eqr, replace(PLAIN, breadth=1, halting=Halting())).observation
    seen.values["residual"][1:] = math.nan
    ones_N = np.ones(len(seen.scores_R), int)
    sums = tally(seen, np.zeros_like(seen.predictions_RS), ones_N, ones_N, replace(PLAIN, breadth=1)).sums
    assert sums["all/residual"] == (seen.values["residual"][0], 1)


def test_restarts_that_did_not_halt_agree_on_nothing(eqr):
    rule = Halting(q=0.5, min_steps=PLAIN.depths[0] + 1)
    found = evaluate(*eqr, replace(PLAIN, top_k=1, halting=rule, agree=1), ALONE)[9]
    assert found["all/forced"] == 1 and found["nfe/mean"] == 27 and found["nfe/abandoned"] == 0


def test_a_freed_restart_leaves_its_slot_at_the_next_look(eqr, monkeypatch):
    """No slot goes on with a restart that does not count."""
    refill = Stream._refill

    def checked(stream):
        kept_R = stream._agreement.kept_N[stream._puzzle_R]
        assert not (stream._taken_R & (stream._restart_R >= kept_R)).any()
        refill(stream)

    monkeypatch.setattr(Stream, "_refill", checked)
    found = evaluate(*eqr, replace(PLAIN, top_k=1, halting=RULES["residual"], agree=1, rows=33, look_interval=1), ALONE)
    assert found[9]["nfe/abandoned"] > 0


@pytest.mark.parametrize("halting", [None, Halting(q=0.5)])
def test_a_model_that_overflows_is_wrong_and_has_no_confidence(partly_solved, halting):  # noqa: F811
    model, puzzles = golden_model("eqr", "H_init_std=1", "L_init_std=1", puzzles=partly_solved)
    with torch.no_grad():
        model.lm_head.weight.fill_(math.nan)
        model.q_head.weight.fill_(math.nan)
    found = evaluate(model, puzzles, replace(PLAIN, halting=halting), ALONE)[9]
    assert found["all/exact_accuracy"] == 0 and found["all/q_halt_ece"] == 0 and math.isnan(found["all/lm_loss"])
    assert math.isnan(found["all/q_halt_precision"]) and found["selection/convergence/exact_accuracy"] == 0
