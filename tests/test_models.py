"""Models: what must hold whatever the weights: symmetries, distributions, gradients, halting."""

import math
from functools import cache
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ALONE
from hypothesis import given
from hypothesis import strategies as st

from config.architectures import Arch
from config.load import load_pretrain
from config.words import choices
from dataset.layout import puzzle_split, write_dataset
from dataset.puzzles import Batch, Puzzles, PuzzleShape, TrainingBatches
from models import precision
from models.attention import sdpa
from models.build import CORES, build
from models.halting import halt
from models.layers import (
    Attention,
    Embedding,
    Linear,
    Rotary,
    SwiGLU,
    rms_norm,
    rope_1d,
    rope_2d,
    sinusoids,
    truncated_normal,
)
from models.losses import log_stablemax, row_metrics, softmax_cross_entropy, stablemax_cross_entropy, step_loss
from models.reasoner import Readout, State
from models.relaxation import relax
from training.trainer import Trainer, seed_step

SHAPE = PuzzleShape(9, 7, 4)


@pytest.fixture(autouse=True)
def same_draws():
    torch.manual_seed(0)


def test_every_architecture_has_a_core():
    names = {name for kind in get_args(Arch) for name in get_args(kind.model_fields["name"].annotation)}
    assert CORES.keys() == names


@cache
def arch_of(*words: str) -> Arch:
    """The architecture that a configuration has."""
    return load_pretrain(list(words)).arch


def small(experiment: str, *words: str, shape: PuzzleShape = SHAPE):
    """(the architecture, the model) of an experiment, narrow, in float32, with weights of full size in the heads."""
    narrow = [
        "arch.hidden_size=16",
        "arch.num_heads=2",
        "arch.L_layers=2",
        "arch.L_cycles=2",
        "arch.forward_dtype=float32",
    ]
    arch = arch_of(f"train={experiment}", *narrow, *words)
    model = build(arch, shape)
    torch.nn.init.normal_(model.q_head.weight)
    return arch, model


def random_batch(rows: int = 5, shape: PuzzleShape = SHAPE) -> Batch:
    inputs, labels = (torch.randint(1, shape.vocab_size, (rows, shape.seq_len)).int() for _ in range(2))
    return Batch(inputs, labels, torch.randint(0, shape.num_puzzle_identifiers, (rows,)).int())


def halting(max_steps: int, exploration: float) -> Arch:
    """An architecture for tests of halting alone."""
    words = [f"arch.halt_max_steps={max_steps}", f"arch.halt_exploration_prob={exploration}"]
    return arch_of("train=trm_sudoku", *words)


def readout(q_halt: torch.Tensor) -> Readout:
    return Readout(torch.zeros(len(q_halt), 1, 1), q_halt, q_halt)


def state_of(steps: torch.Tensor) -> State:
    nothing = torch.zeros(len(steps), 1, dtype=torch.int32)
    return State((), nothing, nothing, nothing[:, 0], steps, torch.zeros(len(steps), dtype=torch.bool))


# -- every experiment -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shaped_data(tmp_path_factory):
    """A function: an experiment's data path -> a folder with a few random puzzles of its shape."""
    made = {}
    shapes = {
        "sudoku-extreme": (81, 11),
        "maze": (144, 6),
        "sudoku-4x4": (16, 6),
        "data/arc": (144, 12),
        "latin": (25, 7),
    }

    def make(data_path: str):
        [(seq_len, vocab_size)] = [shape for name, shape in shapes.items() if name in data_path]
        key = (seq_len, vocab_size)
        if key not in made:
            rng = np.random.default_rng(0)
            tokens = rng.integers(1, vocab_size, (2, 4, seq_len)).astype(np.uint8)
            split = puzzle_split(tokens[0], tokens[1], vocab_size)
            made[key] = tmp_path_factory.mktemp("shaped") / "set"
            write_dataset(made[key], {"train": split, "test": split}, ["<blank>"])
        return made[key]

    return make


def test_a_second_network_updates_z_H():
    """With the first network's weights it computes what one network does; with its own, something else."""
    _, one = small("trm_sudoku")
    _, two = small("trm_sudoku", "arch.H_layers=2")
    shared = one.state_dict()
    own = {key: tensor.clone() for key, tensor in two.state_dict().items()}
    assert own.keys() - shared.keys() == {key for key in own if key.startswith("core.H_level.")} != set()
    copied = {key: shared[key.replace("core.H_level.", "core.L_level.")] for key in own}
    two.load_state_dict(copied)
    state = one.start(random_batch())
    expected = one.advance(state)[1].logits
    assert torch.equal(two.advance(state)[1].logits, expected)
    two.load_state_dict(copied | {key: own[key] for key in own if key.startswith("core.H_level.")})
    assert not torch.allclose(two.advance(state)[1].logits, expected)


@pytest.mark.parametrize("name", [*choices("train"), "hrm_sudoku arch.learned_halting=false"])
def test_every_experiment_trains_a_step(name, shaped_data):
    """As shipped, but for the batch, the precision, the width of wide models and the size of mazes and ARC's grids."""
    words = [*f"train={name}".split(), "global_batch_size=2", "arch.forward_dtype=float32", "lr_warmup_steps=1"]
    config = load_pretrain(words)
    if config.arch.hidden_size > 64:
        words += ["arch.hidden_size=32"] + (["arch.puzzle_emb_ndim=32"] if config.arch.puzzle_emb_ndim else [])
        config = load_pretrain(words)
    puzzles = Puzzles(shaped_data(config.dataset.data_path), "train", ALONE.device)
    seed_step(0, 0, 0)
    model = build(config.arch, puzzles.shape)
    before = {key: t.clone() for key, t in model.named_parameters()}
    trainer = Trainer(config, model, TrainingBatches(puzzles, 2, 0), ALONE)
    metrics = trainer.train_step()
    # untrained: about as good as a guess over the vocabulary, and sure to be wrong
    assert float(metrics["lm_loss"]) / 2 == pytest.approx(math.log(puzzles.shape.vocab_size), rel=0.4)
    assert float(metrics["q_halt_loss"]) / 2 == pytest.approx(math.log1p(math.exp(-5)), rel=1e-3)
    assert (metrics["total_loss"] > metrics["lm_loss"]) == config.arch.learned_halting
    for key, parameter in model.named_parameters():
        assert bool(torch.isfinite(parameter).all()), key
        taught = config.arch.learned_halting or not key.startswith("q_head")
        assert torch.equal(parameter, before[key]) != taught, key


@pytest.mark.parametrize("name", ["eqr_sudoku", "trm_maze_unique"])
def test_a_step_in_bfloat16_is_finite(name):
    arch, model = small(name, "arch.forward_dtype=bfloat16")
    batch = random_batch()
    state, out = model.step(model.start(batch), batch)
    assert out.logits.dtype == torch.bfloat16 and all(z.dtype == torch.bfloat16 for z in state.latents)
    assert out.q_halt.dtype == torch.float32
    loss, metrics = step_loss(out, halt(state, out, arch), arch)
    loss.backward()
    assert loss.dtype == torch.float64 and bool(torch.isfinite(loss))
    for key, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32 and parameter.grad is not None, key
        assert bool(torch.isfinite(parameter.grad).all()) and bool(parameter.grad.any()), key
    assert all(bool(torch.isfinite(value)) for value in metrics.values())


# -- symmetries -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["eqr_maze_unique", "trm_maze_unique"])
def test_without_positions_order_does_not_matter(name):
    """Permuting the tokens and their starts permutes the answer, and changes nothing else."""
    noise = ["arch.noise_scale=0"] if name.startswith("eqr") else []
    _, model = small(name, "arch.pos_encodings=none", *noise)
    batch = random_batch()
    order = torch.tensor([0, *(1 + torch.randperm(8))])  # the first token also answers for q_halt
    moved = batch._replace(inputs=batch.inputs[:, order])
    state = model.start(batch)
    moved_state = model.start(moved)._replace(latents=tuple(z[:, order] for z in state.latents))
    for _ in range(2):
        (state, out), (moved_state, moved_out) = model.advance(state), model.advance(moved_state)
    torch.testing.assert_close(moved_out.logits, out.logits[:, order], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moved_out.q_halt, out.q_halt, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(out.logits, out.logits[:, order], atol=1e-2), "the case should tell tokens apart"


@pytest.mark.parametrize("positions", ["rope", "rope2d", "learned", "absolute", "those of the mixer"])
def test_with_positions_order_matters(positions):
    board = ["arch.board_height=3", "arch.board_width=3"]
    attention = "trm_maze_unique", f"arch.pos_encodings={positions}", *board
    _, model = small(*(["trm_sudoku"] if "mixer" in positions else attention))
    batch = random_batch()
    order = torch.tensor([0, 2, 1, *range(3, 9)])
    (_, out), (_, moved) = (
        model.advance(model.start(batch._replace(inputs=i))) for i in (batch.inputs, batch.inputs[:, order])
    )
    assert not torch.allclose(moved.logits, out.logits[:, order], atol=1e-3)


def products(rotary: Rotary, length: int, head_dim: int) -> torch.Tensor:
    """q.k [L, L] of one query and one key, at all pairs of positions."""
    q, k = (torch.randn(head_dim).expand(1, length, 1, head_dim) for _ in range(2))
    return torch.einsum("blhk,bmhk->lm", rotary(q), rotary(k))


def test_rope_is_relative():
    table = products(Rotary(rope_1d(40, 16)), 40, 16)
    for shift in (1, 7):
        torch.testing.assert_close(table[shift:, shift:], table[:-shift, :-shift], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(table[0, 1:], table[0, :-1], atol=1e-2)


def test_rope2d_is_relative_in_rows_and_columns():
    height, width, prefix = 4, 5, 3
    table = products(Rotary(*rope_2d(height, width, prefix, 16)), prefix + height * width, 16)[prefix:, prefix:]
    grid = table.view(height, width, height, width)
    torch.testing.assert_close(grid[1:, :, 1:], grid[:-1, :, :-1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grid[:, 1:, :, 1:], grid[:, :-1, :, :-1], rtol=1e-4, atol=1e-4)
    # one step down is not one step right, and the end of a row is far from the beginning of the next
    assert abs(float(grid[0, 0, 1, 0] - grid[0, 0, 0, 1])) > 1e-2
    assert abs(float(grid[0, 4, 1, 0] - grid[0, 0, 0, 1])) > 1e-2


def test_rope_keeps_lengths():
    x = torch.randn(2, 12, 3, 8)
    for rotary in (Rotary(rope_1d(12, 8)), Rotary(*rope_2d(3, 4, 0, 8))):
        torch.testing.assert_close(rotary(x).norm(dim=-1), x.norm(dim=-1))


def test_puzzle_tokens_are_not_rotated_by_rope2d():
    x = torch.randn(2, 2 + 6, 3, 8)
    turned = Rotary(*rope_2d(2, 3, 2, 8))(x)
    assert torch.equal(turned[:, :2], x[:, :2])
    torch.testing.assert_close(turned[:, 2], x[:, 2])  # row 0, column 0
    assert not torch.allclose(turned[:, 3:], x[:, 3:], atol=1e-2)


def test_attention_is_softmax_attention():
    layer = Attention(12, 3, rotary=None)
    h = torch.randn(2, 5, 12)
    with torch.no_grad():
        parts = F.linear(h, layer.qkv_proj.weight).view(2, 5, 9, 4)
        expected = torch.empty(2, 5, 3, 4)
        for head in range(3):
            q, k, v = parts[:, :, head], parts[:, :, 3 + head], parts[:, :, 6 + head]
            weights = (q @ k.transpose(1, 2) / math.sqrt(4)).softmax(-1)
            expected[:, :, head] = weights @ v
        torch.testing.assert_close(layer(h), F.linear(expected.flatten(2), layer.o_proj.weight))


# -- layers ---------------------------------------------------------------------------------------------------


def test_truncated_normal_has_the_asked_std_and_is_cut():
    x = truncated_normal(1000, 400, std=0.5).flatten().double()
    n, std_cut = x.numel(), 0.8796256610342398
    assert float(x.mean()) == pytest.approx(0, abs=5 * 0.5 / math.sqrt(n))
    assert float(x.std()) == pytest.approx(0.5, rel=5 / math.sqrt(2 * n))
    edge = 2 * 0.5 / std_cut
    assert float(x.abs().max()) <= edge * (1 + 1e-6) and float(x.abs().max()) > 0.99 * edge
    # the distribution is normal between the cuts; nothing piles up at them
    points = torch.linspace(-1.9, 1.9, 39, dtype=torch.float64)
    phi = 0.5 * (1 + torch.erf(torch.cat((points, torch.tensor([-2.0, 2.0]))) / math.sqrt(2)))
    expected = (phi[:-2] - phi[-2]) / (phi[-1] - phi[-2])
    found = (x[:, None] < points * 0.5 / std_cut).double().mean(0)
    assert float((found - expected).abs().max()) < 2.5 / math.sqrt(n), "Kolmogorov's bound at 1e-5"


def test_truncated_normal_without_spread_is_zero_and_compiles():
    assert torch.equal(truncated_normal(2, 3, std=0), torch.zeros(2, 3))
    torch._dynamo.reset()
    compiled = torch.compile(lambda: truncated_normal(64, 64, std=2.0), fullgraph=True, backend="aot_eager")
    assert float(compiled().std()) == pytest.approx(2.0, rel=0.05) and not torch.equal(compiled(), compiled())


def test_starts_of_parameters():
    linear = Linear(400, 300, bias=True)
    assert not bool(linear.bias.any())
    for weight in (linear.weight, Embedding(300, 400, torch.float32).embedding_weight):
        assert float(weight.detach().std()) == pytest.approx(400**-0.5, rel=0.02)
    model = build(load_pretrain(["train=trm_sudoku", "arch.hidden_size=16"]).arch, SHAPE)
    assert not bool(model.q_head.weight.any()) and model.q_head.bias.tolist() == [-5.0, -5.0]


@pytest.mark.parametrize(
    "dim, expansion, inner", [(512, 4, 1536), (128, 4, 512), (97, 4, 512), (81, 4, 256), (96, 4, 256)]
)
def test_swiglu(dim, expansion, inner):
    layer = SwiGLU(dim, expansion)
    assert layer.gate_up_proj.weight.shape == (2 * inner, dim) and layer.down_proj.weight.shape == (dim, inner)
    x = torch.randn(3, dim)
    gate, up = F.linear(x, layer.gate_up_proj.weight).split(inner, dim=-1)
    torch.testing.assert_close(layer(x), F.linear(gate * torch.sigmoid(gate) * up, layer.down_proj.weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_swiglu_without_gradient_has_the_same_bits_and_leaves_its_input(dtype):
    layer, x = SwiGLU(32, 4), torch.randn(3, 7, 32, dtype=dtype)
    expected, before = layer(x), x.clone()
    with torch.no_grad():
        assert torch.equal(layer(x), expected) and torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("fast", [True, False])
def test_products_round_what_enters_and_what_leaves(fast, dtype, monkeypatch):
    monkeypatch.setattr(precision, "FAST_BFLOAT16", fast)
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((7, 5, 64), (48, 64), (48,)))
    x, weight = x.to(dtype).requires_grad_(), weight.requires_grad_()
    out = precision.product(x, weight, bias)
    exact = F.linear(x.double(), weight.to(dtype).double(), bias.to(dtype).double())
    unit = torch.finfo(dtype).eps * (1 if dtype.itemsize == 2 else 64)
    assert out.dtype == dtype and (out.double() - exact).abs().max() <= unit * exact.abs().max()
    if dtype in (torch.float32, torch.float64) or (fast and dtype == torch.bfloat16):
        assert torch.equal(out, F.linear(x, weight.to(dtype), bias.to(dtype)))
    if dtype.itemsize > 2:
        return
    out.sum().backward()
    assert (x.grad.dtype, weight.grad.dtype) == (dtype, torch.float32)
    expected = x.double().sum((0, 1)).expand(48, 64)
    assert (weight.grad.double() - expected).abs().max() <= 2 * unit * expected.abs().max()


@pytest.mark.parametrize("fast", [True, False])
def test_attention_in_sixteen_bits(fast, monkeypatch):
    monkeypatch.setattr(precision, "FAST_BFLOAT16", fast)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 9, 3, 8, generator=generator).bfloat16() for _ in range(3))
    out, exact = sdpa(q, k, v), sdpa(q.double(), k.double(), v.double())
    assert out.dtype == torch.bfloat16 and out.shape == exact.shape
    worst = (out.double() - exact).abs().max()
    assert worst <= (0.02 if fast else torch.finfo(torch.bfloat16).eps) * exact.abs().max()


def test_rms_norm():
    x = 3 * torch.randn(4, 5, 64)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(rms_norm(x), expected)
    torch.testing.assert_close(rms_norm(x).square().mean(-1), torch.ones(4, 5), rtol=1e-4, atol=0)
    torch.testing.assert_close(rms_norm(7 * x), rms_norm(x), rtol=1e-4, atol=1e-5)
    assert torch.equal(rms_norm(torch.zeros(2, 3)), torch.zeros(2, 3))
    # computes in float32: these squares overflow float16, and bfloat16 would round them
    large = torch.full((2, 8), 1000.0, dtype=torch.float16)
    torch.testing.assert_close(rms_norm(large), torch.ones(2, 8, dtype=torch.float16))
    low = x.bfloat16()
    assert torch.equal(rms_norm(low), rms_norm(low.float()).bfloat16())


def test_sinusoids():
    table = sinusoids(10, 8)
    for position in range(10):
        for i in range(4):
            angle = position / 10000 ** (2 * i / 8)
            assert float(table[position, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(table[position, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("positions", ["none", "learned", "absolute"])
def test_the_embedding(positions):
    _, model = small("trm_sudoku", f"arch.pos_encodings={positions}")
    batch = random_batch()
    tokens = model.embed_tokens.embedding_weight[batch.inputs.long()]
    if positions == "learned":
        tokens = math.sqrt(0.5) * (tokens + model.embed_pos.embedding_weight)
    elif positions == "absolute":
        tokens = math.sqrt(0.5) * (tokens + sinusoids(9, 16))
    torch.testing.assert_close(model.embed(batch.inputs, batch.puzzle_ids), 4.0 * tokens)


@pytest.mark.parametrize("ndim, length, tokens", [(16, 0, 1), (17, 0, 2), (40, 0, 3), (40, 5, 5), (8, 0, 1), (0, 0, 0)])
@pytest.mark.parametrize("name", ["trm_sudoku", "eqr_maze_unique"])
def test_puzzle_embeddings_become_tokens(name, ndim, length, tokens):
    arch, model = small(name, f"arch.puzzle_emb_ndim={ndim}", f"arch.puzzle_emb_len={length}")
    assert arch.puzzle_tokens == tokens
    batch = random_batch()
    state, out = model.step(model.start(batch), batch)
    assert out.logits.shape == (5, 9, 7) and all(z.shape == (5, tokens + 9, 16) for z in state.latents)
    x = model.embed(batch.inputs, batch.puzzle_ids)
    assert not bool(x[:, :tokens].any()), "the table starts at zero"
    if not tokens:
        assert model.puzzle_emb is None
        return
    with torch.no_grad():
        model.puzzle_emb.weights.normal_()
    x = model.embed(batch.inputs, batch.puzzle_ids)
    expected = F.pad(model.puzzle_emb.weights[batch.puzzle_ids.long()], (0, tokens * 16 - ndim)).view(5, tokens, 16)
    torch.testing.assert_close(x[:, :tokens], 4.0 * expected)
    out.logits.sum().backward()


def test_only_rows_in_use_get_a_gradient():
    arch, model = small("trm_maze_unique", "arch.puzzle_emb_ndim=16")
    batch = random_batch()._replace(puzzle_ids=torch.tensor([3, 1, 3, 1, 1], dtype=torch.int32))
    state, out = model.step(model.start(batch), batch)
    step_loss(out, state, arch)[0].backward()
    assert [bool(row.any()) for row in model.puzzle_emb.weights.grad] == [False, True, False, True]


# -- losses ---------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=6))
def test_stablemax_is_its_definition(values):
    s = [x + 1 if x >= 0 else 1 / (1 - x) for x in values]
    found = log_stablemax(torch.tensor(values, dtype=torch.float64)).tolist()
    assert found == pytest.approx([math.log(a / sum(s)) for a in s], rel=1e-9, abs=1e-12)


def test_gradients_of_losses_match_finite_differences():
    logits = 3 * torch.randn(4, 5, 6, dtype=torch.float64)
    logits = torch.where(logits.abs() < 0.01, 0.5, logits).requires_grad_()  # s has no second derivative at 0
    labels = torch.randint(-1, 6, (4, 5))
    assert bool((labels < 0).any())
    assert torch.autograd.gradcheck(log_stablemax, logits)
    assert torch.autograd.gradcheck(lambda x: stablemax_cross_entropy(x, labels), logits)


def test_the_gradient_of_stablemax_is_finite_everywhere():
    x = torch.tensor([[0.0, -0.0, 1e30, -1e30, 5.0]], dtype=torch.float32, requires_grad=True)
    log_stablemax(x)[0, 0].backward()
    assert bool(torch.isfinite(x.grad).all())
    x = torch.zeros(1, 2, requires_grad=True)
    log_stablemax(x)[0, 0].backward()
    torch.testing.assert_close(x.grad, torch.tensor([[0.5, -0.5]]))  # s'(0) = 1 from both sides


@pytest.mark.parametrize("loss", [stablemax_cross_entropy, softmax_cross_entropy])
def test_what_is_not_scored_costs_nothing(loss):
    logits, labels = torch.randn(3, 4, 5, requires_grad=True), torch.tensor([[-100, 1, -1, 4]] * 3)
    values = loss(logits, labels)
    assert bool((values[:, [0, 2]] == 0).all()) and bool((values[:, [1, 3]] > 0).all())
    values.sum().backward()
    assert [bool(part.any()) for part in logits.grad.transpose(0, 1)] == [False, True, False, True]


def test_the_loss_of_a_row():
    """lm_loss is the mean over a row's scored tokens, summed over rows. q_halt learns whether a row is all right."""
    logits = torch.randn(3, 4, 5)
    labels = logits.argmax(-1)
    labels[1, 0] = (labels[1, 0] + 1) % 5
    labels[2, 1:] = -100
    q_halt = torch.tensor([0.3, -0.7, 2.0])
    state = state_of(torch.tensor([2, 3, 4]))._replace(labels=labels, halted=torch.tensor([True, True, False]))
    arch, _ = small("trm_sudoku", "arch.loss.loss_type=softmax_cross_entropy")
    loss, metrics = step_loss(Readout(logits, q_halt, q_halt), state, arch)
    log_p = logits.double().log_softmax(-1)
    tokens = [[-float(log_p[r, s, labels[r, s]]) for s in range(4) if labels[r, s] >= 0] for r in range(3)]
    lm_loss = sum(sum(row) / len(row) for row in tokens)
    right = [1.0, 0.0, 1.0]
    p = torch.sigmoid(q_halt).tolist()
    q_loss = -sum(math.log(a if exact else 1 - a) for a, exact in zip(p, right, strict=True))
    assert float(loss) == pytest.approx(lm_loss + 0.5 * q_loss, rel=1e-5)
    expected = {"count": 2, "accuracy": 1.75, "exact_accuracy": 1, "q_halt_accuracy": 2, "steps": 5}
    assert {key: float(metrics[key]) for key in expected} == expected
    rows = row_metrics(Readout(logits, q_halt, q_halt), labels, "softmax_cross_entropy", learned_halting=True)
    assert rows["accuracy"].tolist() == [1.0, 0.75, 1.0] and rows["exact_accuracy"].tolist() == [True, False, True]


# -- halting and slots ----------------------------------------------------------------------------------------


def test_halting_without_exploration():
    steps = torch.tensor([1, 2, 3, 4, 5])
    sure, unsure = readout(torch.full((5,), 1e-3)), readout(torch.zeros(5))
    assert halt(state_of(steps), unsure, halting(4, 0.0)).halted.tolist() == [False, False, False, True, True]
    assert halt(state_of(steps), sure, halting(4, 0.0)).halted.tolist() == [True] * 5
    # no exploration goes beyond the maximum; with a single step there is nothing to decide
    assert bool(halt(state_of(torch.full((1000,), 4)), readout(torch.zeros(1000)), halting(4, 1.0)).halted.all())
    assert halt(state_of(steps), unsure, halting(1, 1.0)).halted.tolist() == [True] * 5


def test_exploration_draws_a_minimum_number_of_steps():
    """A sure slot halts after `steps` unless it explores and its minimum, uniform on [2, max], is larger."""
    n, max_steps, share = 40_000, 5, 0.4
    sure = readout(torch.ones(n))
    for steps in range(1, max_steps + 1):
        halted = halt(state_of(torch.full((n,), steps)), sure, halting(max_steps, share)).halted.double().mean()
        p = 1 - share * (max_steps - steps) / (max_steps - 1)
        assert float(halted) == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / n)), steps


def test_only_halted_slots_are_refilled():
    _, model = small("eqr_sudoku", "arch.puzzle_emb_ndim=16")
    first, second = random_batch(), random_batch()
    state, _ = model.step(model.start(first), first)
    rows = torch.tensor([True, False, False, True, False])
    state = state._replace(halted=rows, steps=torch.tensor([4, 1, 2, 3, 5], dtype=torch.int32))
    kept = [t.clone() for t in (*state.latents, *state[1:])]
    new = model.refill(state, second)
    for i, field in enumerate(("inputs", "labels", "puzzle_ids"), start=1):
        assert torch.equal(new[i][rows], second[i - 1][rows]), field
        assert torch.equal(new[i][~rows], first[i - 1][~rows]), field
    assert new.steps.tolist() == [0, 1, 2, 0, 5] and not bool(new.halted.any())
    for z, old in zip(new.latents, state.latents, strict=True):
        assert torch.equal(z[~rows], old[~rows]) and not bool((z[rows] == old[rows]).any())
    assert not torch.equal(new.latents[0][0], new.latents[0][3]), "every row starts from draws of its own"
    assert all(torch.equal(a, b) for a, b in zip(kept, (*state.latents, *state[1:]), strict=True)), "a state is a value"


def test_starts_of_latents():
    _, eqr = small("eqr_sudoku", "arch.H_init_std=0.5", "arch.L_init_std=2")
    z_H, z_L = eqr.core.start(200)
    assert z_H.shape == (200, 9, 16)
    assert float(z_H.std()) == pytest.approx(0.5, rel=0.02) and float(z_L.std()) == pytest.approx(2, rel=0.02)
    assert not torch.equal(eqr.core.start(2)[0], eqr.core.start(2)[0])
    _, trm = small("trm_sudoku")
    z_H, z_L = trm.core.start(3)
    assert torch.equal(z_H, trm.core.start.H_init.expand(3, 9, 16)) and not torch.equal(z_H, z_L)
    assert "core.start.H_init" not in dict(trm.named_parameters()), "stored, not trained"


# -- recursion ------------------------------------------------------------------------------------------------


def test_relaxation_goes_a_part_of_the_way():
    h, target = torch.randn(4, 5), torch.randn(4, 5)
    torch.testing.assert_close(relax(h, target, 0.3, 0.0), 0.7 * h + 0.3 * target)
    torch.testing.assert_close(relax(h, target, 1.0, 0.0), target)


def test_noise_is_normal_and_fresh_at_every_call_and_row():
    h = torch.zeros(2, 100_000)
    one, other = (relax(h, h, 0.95, 0.2) for _ in range(2))
    for noise in (one[0], one[1], other[0], other[1]):
        assert float(noise.mean()) == pytest.approx(0, abs=5 * 0.2 / math.sqrt(1e5))
        assert float(noise.std()) == pytest.approx(0.2, rel=5 / math.sqrt(2e5))
        assert float((noise / 0.2).pow(4).mean()) == pytest.approx(3, abs=0.2), "normal, not just of that spread"
    correlations = torch.corrcoef(torch.cat((one, other))) - torch.eye(4)
    assert float(correlations.abs().max()) < 5 / math.sqrt(1e5)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_noise_enters_at_every_application_also_in_evaluation(mode):
    _, model = small("eqr_sudoku", "arch.noise_scale=0.1", "arch.lambda_=0.5")
    model.train(mode == "train")
    f, network, applied = model.core.L_level.f, model.core.L_level, []

    def watch(_, arguments, output):
        h, inject = arguments
        with torch.no_grad():
            applied.append(output.detach() - (0.5 * h + 0.5 * f(h, inject)))

    handle = network.register_forward_hook(watch)
    batch = random_batch()
    model.step(model.start(batch), batch)
    handle.remove()
    assert len(applied) == 3 * (2 + 1), "H_cycles passes of L_cycles + 1 applications"
    noise = torch.stack([t.flatten() for t in applied])
    assert float(noise.std()) == pytest.approx(0.1, rel=0.05)
    assert float((torch.corrcoef(noise) - torch.eye(9)).abs().max()) < 5 / math.sqrt(noise.shape[1])


def test_without_noise_and_damping_eqr_is_trm():
    _, eqr = small("eqr_sudoku", "arch.noise_scale=0", "arch.lambda_=1")
    _, trm = small("trm_sudoku")
    weights = {key.replace("L_level.f.", "L_level."): t for key, t in eqr.state_dict().items()}
    trm.load_state_dict(weights | {key: t for key, t in trm.state_dict().items() if key.endswith("_init")})
    batch = random_batch()
    start = eqr.start(batch)
    torch.testing.assert_close(eqr.advance(start)[1].logits, trm.advance(start)[1].logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["eqr_maze_unique", "trm_sudoku"])
def test_gradient_flows_through_the_last_pass_only(name):
    """Compares with a recursion written by hand, whose earlier passes are detached or not."""
    noise = ["arch.noise_scale=0"] if name.startswith("eqr") else []
    arch, model = small(name, *noise)
    batch = random_batch()
    start = model.start(batch)
    apply = model.core.L_level

    def gradients(out: Readout) -> dict[str, torch.Tensor]:
        model.zero_grad()
        step_loss(out, start, arch)[0].backward()
        return {key: p.grad.clone() for key, p in model.named_parameters()}

    def by_hand(detach: bool) -> Readout:
        x = model.embed(batch.inputs, batch.puzzle_ids)
        z_H, z_L = start.latents
        for i in range(arch.H_cycles):
            for _ in range(arch.L_cycles):
                z_L = apply(z_L, z_H + x)
            z_H = apply(z_H, z_L)
            if detach and i < arch.H_cycles - 1:
                z_H, z_L = z_H.detach(), z_L.detach()
        return model.read_out(z_H, 9)

    state, out = model.advance(start)
    found, expected, whole = gradients(out), gradients(by_hand(True)), gradients(by_hand(False))
    for key, gradient in found.items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(found["embed_tokens.embedding_weight"], whole["embed_tokens.embedding_weight"], rtol=1e-2)
    assert not any(z.requires_grad for z in state.latents)


@pytest.mark.parametrize("name", ["eqr_sudoku", "trm_maze_unique"])
def test_rows_do_not_see_each_other(name):
    noise = ["arch.noise_scale=0"] if name.startswith("eqr") else []
    _, model = small(name, *noise)
    batch = random_batch()
    start = model.start(batch)
    out = model.advance(start)[1]
    part = State(*(tuple(z[2:4] for z in start.latents), *(t[2:4] for t in start[1:])))
    torch.testing.assert_close(model.advance(part)[1].logits, out.logits[2:4], rtol=1e-4, atol=1e-5)
