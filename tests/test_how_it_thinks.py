"""docs/how_it_thinks.md: its numbers are those of the models."""

import math
import re

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch.utils.flop_counter import FlopCounterMode

from config.load import load_pretrain
from config.schema import EvalConfig
from dataset.puzzles import Batch, PuzzleShape
from dataset.sudoku import random_puzzle, solutions
from models.build import build
from models.halting import continue_target, halt
from models.layers import Block, MixerBlock
from models.losses import step_loss

PAGE = (ROOT / "docs" / "how_it_thinks.md").read_text()
PROSE = re.sub(r"^```python.*?^```$", "", PAGE, flags=re.M | re.S)
SHAPE = PuzzleShape(seq_len=81, vocab_size=11, num_puzzle_identifiers=1)
PUZZLE, SOLUTION = re.search(r"^```\n(\S{81})\n(\S{81})\n```$", PAGE, re.M).groups()


def tokens(characters: str) -> list[int]:
    """Digit + 1, blank 1."""
    return [int(character.replace(".", "0")) + 1 for character in characters]


def load(name: str):
    return load_pretrain([f"train={name}"])


class Run:
    """One outer iteration of a configuration's model on the page's puzzle. Counts its networks and blocks."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        self.arch = load(name).arch
        self.model = build(self.arch, SHAPE)
        # at the start the q head's weight is 0, and would pass no gradient on
        torch.nn.init.normal_(self.model.q_head.weight, std=0.01)
        self.networks, self.blocks = [], []  # of each application: whether it was with gradient
        for module in self.model.core.networks():
            module.register_forward_hook(lambda *_: self.networks.append(torch.is_grad_enabled()))
        for module in self.model.modules():
            if isinstance(module, Block | MixerBlock):
                module.register_forward_hook(lambda *_: self.blocks.append(torch.is_grad_enabled()))
        rows = [torch.tensor([tokens(text)], dtype=torch.int32) for text in (PUZZLE, SOLUTION)]
        self.batch = Batch(*rows, torch.zeros(1, dtype=torch.int32))
        self.before = self.model.refill(self.model.start(self.batch), self.batch)
        self.latents = tuple(z.clone().requires_grad_() for z in self.before.latents)
        self.x_BLD = self.model.embed(self.batch.inputs, self.batch.puzzle_ids)
        self.state, self.readout = self.model.advance(self.before._replace(latents=self.latents))
        self.counts = [len(self.networks), sum(self.networks), len(self.blocks), sum(self.blocks)]
        self.gradient_comes_last = self.networks == sorted(self.networks) and self.blocks == sorted(self.blocks)


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    return {name: Run(f"{name.lower()}_sudoku") for name in ("EqR", "TRM", "HRM")}


# -- numbers -----------------------------------------------------------------------------


def test_the_puzzle():
    puzzle, solution = (np.array(tokens(text)) - 1 for text in (PUZZLE, SOLUTION))
    drawn = random_puzzle(np.random.default_rng(0), 9)
    assert np.array_equal(drawn, (puzzle, solution))
    [only] = solutions(puzzle, limit=2)
    assert np.array_equal(only, solution)
    assert set(re.findall(r"(\d+) clues", PROSE)) == {str((puzzle > 0).sum())}
    for text in (PUZZLE, SOLUTION):
        assert f"`{text[:9]}`" in PROSE and f"`{' '.join(map(str, tokens(text[:9])))}`" in PROSE


def test_every_shape_on_the_page_was_measured(runs):
    measured = set()
    for name, run in runs.items():
        length = 82 if name == "HRM" else 81
        assert [list(z.shape) for z in (run.x_BLD, *run.state.latents)] == 3 * [[1, length, 512]]
        assert run.x_BLD.float().std().item() == pytest.approx(1, abs=0.1)
        tensors = [*run.batch, run.x_BLD, *run.state.latents, *run.readout, *run.model.core.start.buffers()]
        measured |= {str(list(t.shape)) for t in [*tensors, run.model.embed_tokens.embedding_weight]}
    claimed = set(re.findall(r"\[\d+(?:, \d+)*\]", PROSE))
    assert claimed <= measured and len(claimed) == 7


def test_the_table_of_counts(runs):
    [table] = re.findall(r"^\| \| EqR \| TRM \| HRM \|\n\|[-:| ]+\|\n((?:\|.*\n)+)", PAGE, re.M)
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    applications = ["network applications", "of these with gradient", "block applications", "of these with gradient"]
    assert [row[0] for row in rows] == [*applications, "parameters"]
    assert [row[1:] for row in rows[:4]] == [[str(run.counts[i]) for run in runs.values()] for i in range(4)]
    parameters = [sum(p.numel() for p in run.model.parameters()) for run in runs.values()]
    assert rows[4][1:] == [f"{count:,}" for count in parameters]
    assert all(run.gradient_comes_last for run in runs.values())


def test_a_pass(runs):
    arch = runs["EqR"].arch
    assert (arch.L_cycles, arch.H_cycles, arch.L_layers) == (6, 3, 2) and "18 times and z_H 3 times" in PROSE
    assert (arch.lambda_, arch.noise_scale, arch.H_init_std, arch.L_init_std) == (0.95, 0.01, 1.0, 1.0)
    hrm = runs["HRM"].arch
    assert (hrm.H_cycles, hrm.L_cycles, hrm.H_layers, hrm.L_layers) == (2, 2, 4, 4)
    assert not hrm.mlp_t and arch.mlp_t and runs["TRM"].arch.mlp_t
    z_H = runs["TRM"].state.latents[0].float()
    assert z_H.square().mean(-1).sqrt().sub(1).abs().max() < 0.01


def test_starts(runs):
    for name, run in runs.items():
        for z in run.before.latents:
            assert z.float().std().item() == pytest.approx(1, abs=0.1)
            assert torch.equal(z[:, 0], z[:, 1]) == (name != "EqR"), "one vector for every cell, or not"
        assert not list(run.model.core.start.parameters()), "nothing of a start is trained"


def test_where_gradient_flows(runs):
    for run in runs.values():
        loss, _ = step_loss(run.readout, halt(run.state, run.readout, run.arch), run.arch)
        loss.backward()
        assert all(z.grad is None for z in run.latents), "not into the latents that came in"
        assert not any(z.requires_grad for z in run.state.latents), "nor out of the iteration"
        assert run.model.embed_tokens.embedding_weight.grad.abs().sum() > 0
        for module in (*run.model.core.networks(), run.model.lm_head, run.model.q_head):
            assert all(p.grad.abs().sum() > 0 for p in module.parameters())
        assert loss.item() == pytest.approx(math.log(11), abs=0.4)
        run.model.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(
            run.model.advance(run.before)[1].q_halt, torch.ones(1)
        ).backward()
        assert all(p.grad.abs().sum() > 0 for network in run.model.core.networks() for p in network.parameters())


def test_memory_is_that_of_one_pass(runs):
    """Backpropagation keeps as much of 3 passes as of 1."""
    run, kept = runs["TRM"], []

    def pack(t):
        kept[-1] += t.nbytes
        return t

    for passes in (1, 3):
        run.model.core.H_cycles = passes
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            run.model.advance(run.before)
    assert kept[0] == kept[1] > 0


def test_halting(runs):
    assert "probability of 0.7%" in PROSE and round(100 / (1 + math.exp(5)), 1) == 0.7
    for name, run in runs.items():
        config = load(f"{name.lower()}_sudoku")
        assert (run.arch.halt_max_steps, run.arch.halt_exploration_prob, config.global_batch_size) == (16, 0.1, 768)
        assert build(run.arch, SHAPE).q_head.bias.tolist() == [-5, -5]
        assert run.arch.q_continue == (name == "HRM")
    hrm = runs["HRM"]
    before = len(hrm.networks)
    continue_target(hrm.model, hrm.state, hrm.arch)
    assert hrm.networks[before:] == 6 * [False]


def test_cost_depth_and_selection(runs):
    run = runs["EqR"]
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        run.model.advance(run.state)
    assert f"{flops.get_total_flops() / 1e9:.1f} GFLOP" in PROSE
    assert f"64 iterations are {64 * 42:,} block" in PROSE
    assert EvalConfig(checkpoint="a").convergence_window == 3


def test_the_feedforward_baseline_and_the_ladder():
    arch = load("feedforward_sudoku").arch
    with torch.device("meta"):
        model = build(arch, SHAPE)
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in PROSE
    assert (arch.L_layers, arch.repeats, arch.halt_max_steps, arch.mlp_t) == (42, 1, 1, True)
    tied, supervised, hierarchy = (
        load(f"ladder_{name}_sudoku").arch for name in ("1_weight_tied", "2_supervised", "3_hierarchy")
    )
    assert (tied.L_layers, tied.repeats, tied.halt_max_steps, supervised.halt_max_steps) == (2, 21, 1, 16)
    assert hierarchy == load("trm_sudoku").arch.model_copy(update={"learned_halting": False})
