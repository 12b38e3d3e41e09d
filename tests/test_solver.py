"""The solver in Python: batches, starts, traces, devices and precision."""

import numpy as np
import pytest
import torch
from conftest import ROOT

from config.load import load_pretrain
from dataset.boards import Maze, Sudoku
from dataset.puzzles import Batch, PuzzleShape
from models import precision
from models.build import build
from runtime import checkpoint
from solving import Solver, solver
from solving.answers import WINDOW

GOLDEN = ROOT / "tests" / "golden" / "checkpoints"
FOUR = "2....4.3.......4"


def write_random(directory, name: str, shape: PuzzleShape, *words: str) -> str:
    """The folder of an untrained checkpoint with random weights."""
    heads = [] if "sru" in name else ["arch.num_heads=2"]
    config = load_pretrain([f"train={name}", "arch.hidden_size=32", *heads, *words])
    torch.manual_seed(0)
    weights = build(config.arch, shape).state_dict()
    checkpoint.save(
        directory / "last.safetensors", checkpoint.Checkpoint(0, config, shape, weights, None, {}, None, {})
    )
    return str(directory)


@pytest.fixture(scope="module")
def random_model(tmp_path_factory) -> Solver:
    return Solver.load(write_random(tmp_path_factory.mktemp("random"), "quickstart", PuzzleShape(16, 6, 1)))


@pytest.fixture(scope="module")
def mazes() -> np.ndarray:
    return np.load(GOLDEN / "maze9" / "test" / "all__inputs.npy")


def test_texts_and_tokens_get_the_same_answers(random_model):
    texts = [FOUR, "." * 16]
    tokens = np.stack([Sudoku(4).tokens(text) for text in texts])
    by_text = random_model.solve(texts, depth=3)
    by_tokens = random_model.solve(tokens, depth=3)
    for told, found in zip(by_text, by_tokens, strict=True):
        assert (told.tokens_S == found.tokens_S).all() and told[1:6] == found[1:6]
        assert (found.text, found.valid, found.trace) == (None, None, None)
        assert told.valid is False and len(told.text) == 16
    [one] = random_model.solve(FOUR, depth=3)
    assert one.start == 0 and one.trace is None


def test_the_seed_decides_and_nothing_else_is_touched(random_model):
    before = torch.random.get_rng_state()
    first, again, other = (random_model.solve([FOUR], breadth=4, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first[1:] == again[1:] and first.residual != other.residual


def test_a_puzzle_stops_at_the_first_answer_that_is_accepted(random_model):
    """The puzzle whose fourth answer is accepted stops there. The other one goes on."""
    asked = []

    def accept(puzzle_S, answer_S):
        asked.append(int(puzzle_S[0]))
        return asked.count(3) == 4 and puzzle_S[0] == 3

    stops, goes_on = random_model.solve([FOUR, "." * 16], depth=6, breadth=2, trace=True, accept=accept)
    every = random_model.solve([FOUR, "." * 16], depth=6, breadth=2, trace=True)
    assert asked[:4] == [3, 3, 1, 1], "every start of both puzzles after the first iteration"
    assert (stops.start, stops.made, goes_on.made) == (1, stops.iterations, 6) and stops.made < 6
    assert len(stops.trace.answers_TS) == len(stops.trace.residual_T) == stops.made
    assert (stops.trace.answers_TS[-1] == stops.tokens_S).all()
    assert {answer.made for answer in every} == {6} and len(goes_on.trace.answers_TS) == 6
    assert random_model.solve([FOUR], depth=6, accept=lambda *_: True)[0].made == 1


def test_starts_beyond_one_batch_are_left_out_after_an_accepted_answer(random_model, monkeypatch):
    sizes: list[int] = []
    advance = random_model.model.advance
    monkeypatch.setattr(random_model.model, "advance", lambda state: sizes.append(len(state.inputs)) or advance(state))
    monkeypatch.setattr(random_model, "_rows", 2)
    [answer] = random_model.solve([FOUR], depth=1, breadth=6, accept=lambda *_: len(sizes) == 2)
    assert sizes == [2, 2] and answer.start == 2


def test_the_best_converged_start_answers(random_model):
    [answer] = random_model.solve([FOUR], depth=6, breadth=5, trace=True)
    found = []
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.SeedSequence((0, 0)).generate_state(1)[0]))
        device = random_model.model.lm_head.weight.device
        inputs = torch.from_numpy(np.stack([Sudoku(4).tokens(FOUR)] * 5)).to(device)
        batch = Batch(inputs, inputs, torch.zeros(5, dtype=torch.int32, device=device))
        state = random_model.model.start(batch)
        for _ in range(6):
            with torch.no_grad():
                state, readout = random_model.model.advance(state)
            found.append(readout.logits)
    moved_TB = torch.stack([(b - a).norm(dim=-1).mean(-1) for a, b in zip(found, found[1:], strict=False)])
    scores_B = moved_TB[-3:].mean(0)
    best = int(scores_B.argmin())
    answers_TS = torch.stack(found)[:, best].argmax(-1).cpu().numpy()
    assert answer.start == best and answer.residual == pytest.approx(float(scores_B[best]))
    assert (answer.trace.answers_TS == answers_TS).all() and (answer.tokens_S == answers_TS[-1]).all()
    assert np.isnan(answer.trace.residual_T[0])
    assert answer.trace.residual_T[1:] == pytest.approx(moved_TB[:, best].cpu().numpy())
    last_change = max([1, *(t + 1 for t in range(1, 6) if (answers_TS[t] != answers_TS[t - 1]).any())])
    assert answer.iterations == last_change
    assert answer.confidence == pytest.approx(float(readout.q_halt[best].sigmoid()))


def test_many_puzzles_and_starts_run_a_few_at_a_time(random_model, monkeypatch):
    sizes: list[int] = []
    advance = random_model.model.advance
    monkeypatch.setattr(random_model.model, "advance", lambda state: sizes.append(len(state.inputs)) or advance(state))
    monkeypatch.setattr(random_model, "_rows", 6)
    assert len(random_model.solve([FOUR] * 7, depth=1, breadth=2)) == 7
    assert sizes == [6, 6, 2]
    sizes.clear()
    answers = random_model.stream([FOUR] * 3, depth=1, breadth=8)
    next(answers)
    assert sizes == [6, 2], "the second puzzle has not begun"
    assert len(list(answers)) == 2


def test_settled_starts_and_short_depths(random_model, mazes):
    [short] = random_model.solve([FOUR], depth=1)
    assert np.isnan(short.residual) and (short.iterations, short.settled_starts) == (1, 0)
    learned = Solver.load(str(GOLDEN / "trm_maze9.pth"), 81, 6)
    answers = learned.solve(mazes[:8], depth=16, breadth=3)
    assert all(0 <= answer.settled_starts <= 3 for answer in answers)
    assert any(answer.settled_starts == 3 for answer in answers), "a trained model settles"
    assert learned.solve(mazes[:1], depth=WINDOW, breadth=3)[0].settled_starts == 0, "too short to tell"


def test_models_with_stored_starts_get_random_ones_for_breadth(mazes):
    learned = Solver.load(str(GOLDEN / "trm_maze9.pth"), 81, 6)
    residuals = [learned.solve(mazes[:1], depth=4, seed=seed)[0].residual for seed in (0, 1)]
    assert residuals[0] == residuals[1], "one start: the stored one"
    residuals += [learned.solve(mazes[:1], depth=4, breadth=2, seed=seed)[0].residual for seed in (0, 1)]
    assert len(set(residuals)) == 3
    assert learned.solve(mazes[:1], depth=4)[0].residual == residuals[0], "and back"


def test_a_model_is_left_as_it_was(mazes):
    learned = Solver.load(str(GOLDEN / "trm_maze9.pth"), 81, 6)
    start, state = learned.model.core.start, {name: value.clone() for name, value in learned.model.state_dict().items()}
    for training in (True, False):
        learned.model.train(training)
        learned.solve(mazes[:1], depth=2, breadth=2)
        assert learned.model.training == training and learned.model.core.start is start
    assert all(torch.equal(value, state[name]) for name, value in learned.model.state_dict().items())


def test_released_checkpoints_and_mazes_as_text(mazes):
    path = str(GOLDEN / "eqr_maze9.pth")
    with pytest.raises(ValueError, match="give seq_len and vocab_size"):
        Solver.load(path)
    texts = [Maze(9).text(maze) for maze in mazes[:5]]
    for maze, answer in zip(mazes, Solver.load(path, 81, 6).solve(texts), strict=False):
        assert answer.valid == (Maze(9).fault(maze, answer.tokens_S) is None)
        assert answer.text == Maze(9).text(answer.tokens_S)


def test_mistakes_are_one_sentence(random_model, tmp_path):
    nine = "." * 81
    for puzzles, words in (
        ([nine], "16 tokens out of 6, so it cannot answer 9x9 Sudokus"),
        (np.ones((2, 81), int), r"cannot answer tokens of shape \[2, 81\]"),
        (["1..x............"], "puzzle 1: row 1 column 4"),
    ):
        with pytest.raises(ValueError, match=words):
            random_model.solve(puzzles)
    with pytest.raises(ValueError, match="depth and breadth should be at least 1"):
        random_model.solve([FOUR], depth=0)
    with pytest.raises(ValueError, match="there is no checkpoint"):
        Solver.load(str(tmp_path))
    for device in ("nonsense", "cuda:77"):
        with pytest.raises(ValueError, match=f"device should be .*'{device}'"):
            Solver.load(str(tmp_path), device=device)


def test_a_full_gpu_is_too_little_memory(random_model, monkeypatch):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(random_model.model, "advance", full)
    with pytest.raises(MemoryError, match="out of GPU memory"):
        random_model.solve(np.zeros((1, 16), np.uint8))


ARCHS = ["eqr_sudoku", "eqr_maze_unique", "trm_sudoku", "hrm_sudoku", "hrm_sru", "hrm_srupp", "feedforward_sudoku"]


@pytest.mark.parametrize("name", ARCHS)
def test_weights_cast_once_give_the_same_answers(name, tmp_path, monkeypatch):
    """In bfloat16, casting the weights once gives the same answers as casting them at every use."""
    monkeypatch.setattr(precision, "FAST_BFLOAT16", True)
    path = write_random(tmp_path, name, PuzzleShape(16, 6, 1))
    once = Solver.load(path)
    linears = [m for f in once.model.core.networks() for m in f.modules() if isinstance(m, solver.Linear)]
    assert {m.weight.dtype for m in linears} == ({torch.bfloat16} if "sru" not in name else set())
    assert once.model.q_head.weight.dtype == torch.float32
    monkeypatch.setattr(solver, "_cast_once", lambda *_: None)
    [a], [b] = once.solve([FOUR], depth=3), Solver.load(path).solve([FOUR], depth=3)
    assert (a.tokens_S == b.tokens_S).all() and a[1:6] == b[1:6]


@pytest.mark.parametrize("fast, own, used", [(True, "bfloat16", "bfloat16"), (False, "bfloat16", "float32")])
def test_the_faster_precision_is_chosen(fast, own, used, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "FAST_BFLOAT16", fast)
    path = write_random(tmp_path, "eqr_sudoku", PuzzleShape(16, 6, 1), f"arch.forward_dtype={own}")
    assert Solver.load(path, device="cpu").model.embed_tokens.dtype == getattr(torch, used)


def test_float32_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "FAST_BFLOAT16", True)
    path = write_random(tmp_path, "quickstart", PuzzleShape(16, 6, 1))
    assert Solver.load(path, device="cpu").model.embed_tokens.dtype == torch.float32


def test_tokens_of_another_vocabulary_are_refused(random_model):
    for token in (6, -1):
        with pytest.raises(ValueError, match="tokens should be from 0 to 5, but"):
            random_model.solve(np.full((2, 16), token))
    assert random_model.solve(np.empty((0, 16), int)) == []


def test_a_model_that_overflows_has_not_converged_and_no_confidence(tmp_path):
    broken = Solver.load(write_random(tmp_path, "quickstart", PuzzleShape(16, 6, 1)))
    with torch.no_grad():
        broken.model.lm_head.weight.fill_(np.nan)
        broken.model.q_head.weight.fill_(np.nan)
    [answer] = broken.solve(FOUR, breadth=2)
    assert (answer.settled_starts, answer.confidence, answer.valid) == (0, 0, False)
