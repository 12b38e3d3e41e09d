"""Iterations as CUDA graphs: the same numbers, to the bit, as without them."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from config.load import load_pretrain
from dataset.puzzles import Puzzles, PuzzleShape, TrainingBatches
from evaluation.trajectory import seed, trajectory
from models import backend
from models.build import build, place
from models.kernels.graph import Graphed, graphed_without_gradient
from models.parts import PLAIN
from runtime.distributed import World
from training.trainer import Trainer, seed_step

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

DEVICE = torch.device("cuda")
SMALL = ["arch.forward_dtype=bfloat16", "global_batch_size=8", "lr=1e-3", "lr_warmup_steps=1"]
RUNS = {
    "eqr_sudoku": ["arch.mlp_t=true"],
    "eqr_maze_unique": [],
    "hrm_sudoku": ["gradient_accumulation_steps=2"],
    "trm_arc1": ["arch.hidden_size=64", "arch.num_heads=4"],
    "hrm_sru": [],
    "hrm_srupp": [],
    "feedforward_sudoku": [],
}


def test_training_and_evaluation_share_no_graph(monkeypatch):
    """Only training has dropout."""
    model, modes = torch.nn.Dropout(), []
    graphed = Graphed(lambda x: modes.append(model.training) or x, model)
    monkeypatch.setattr(graphed, "_record", lambda _: pytest.fail("it would be recorded"))
    graphed(torch.ones(2))
    model.eval()
    graphed(torch.ones(2))
    assert modes == [True, False]


def test_only_iterations_without_gradient_are_recorded(monkeypatch):
    """Nor are iterations inside another recording, such as HRM's look ahead in training."""
    ways, recording = [], False
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: recording)
    monkeypatch.setattr(Graphed, "__call__", lambda self, x: ways.append("a graph") or x)
    run = graphed_without_gradient(lambda x: ways.append("as it is") or x, torch.nn.Identity())
    run(torch.ones(2))
    with torch.no_grad():
        run(torch.ones(2))
        recording = True
        run(torch.ones(2))
    assert ways == ["as it is", "a graph", "as it is"]


def test_a_model_advances_as_its_parts_say(monkeypatch):
    arch = load_pretrain(["train=trm_sudoku", "arch.hidden_size=16", "arch.num_heads=2"]).arch
    parts = PLAIN._replace(graphed=lambda advance, model: lambda state: (state, advance, model))
    monkeypatch.setattr(backend.Backend, "parts", lambda self: parts)
    model = build(arch, PuzzleShape(9, 7, 1))
    assert model.advance("a state") == ("a state", model.iterate, model)


def chosen(config, graphs: bool) -> backend.Backend:
    return backend.choose(config.model_copy(update={"cuda_graphs": graphs}), config.arch, DEVICE)


def a_trainer(config, puzzles: Puzzles, graphs: bool) -> Trainer:
    how = chosen(config, graphs)
    assert how.graphs is graphs
    seed_step(0, 0, 0)
    model = build(config.arch, puzzles.shape, how)
    place(model, how, DEVICE)
    return Trainer(config, model, TrainingBatches(puzzles, 8, 0, (0, 1)), World(0, 1, DEVICE), how.graphs)


@on_a_gpu
@pytest.mark.parametrize("name", RUNS)
def test_training(name, tiny_data):
    config = load_pretrain([f"train={name}", *SMALL, *RUNS[name], f"dataset.data_path={tiny_data}"])
    puzzles = Puzzles(str(tiny_data), "train", DEVICE)
    found = []
    for graphs in (False, True):
        trainer = a_trainer(config, puzzles, graphs)
        losses = [trainer.train_step() for _ in range(6)]
        found.append(
            [*(tuple(step.values()) for step in losses), trainer.states[0].latents, tuple(trainer.model.parameters())]
        )
    for without, with_graphs in zip(*found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(without, with_graphs, strict=True))
    assert not torch.equal(losses[0]["total_loss"], losses[1]["total_loss"])


@on_a_gpu
def test_evaluation(tiny_data):
    """Also with fewer rows in between, and after the weights have changed."""
    config = load_pretrain(["train=eqr_maze_unique", f"dataset.data_path={tiny_data}"])
    puzzles = Puzzles(str(tiny_data), "test", DEVICE)
    torch.manual_seed(0)
    plain, graphed = (build(config.arch, puzzles.shape, chosen(config, graphs)) for graphs in (False, True))
    graphed.load_state_dict(plain.state_dict())
    for model, graphs in ((plain, False), (graphed, True)):
        place(model, chosen(config, graphs), DEVICE)
    for rows, factor in ((4, 1.0), (3, 1.0), (4, 1.0), (4, 1.5)):
        answers = []
        for model in (plain, graphed):
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(factor)
            seed(5)
            steps = list(trajectory(model, puzzles.rows(np.arange(rows)), 5, perturb_std=0.1))
            answers.append([torch.cat((r.logits.flatten(), *(z.flatten() for z in s.latents))) for s, r, *_ in steps])
        assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))
        assert not torch.equal(answers[1][0], answers[1][-1])


@on_a_gpu
def test_code_that_waits_for_the_device_is_told_how_to_do_without():
    waiting = Graphed(lambda x: (x * float(x.sum()),), torch.nn.Identity())
    x = torch.ones(3, device=DEVICE)
    waiting(x)
    with pytest.raises(ValueError, match="cuda_graphs=false does without"):
        waiting(x)
    assert torch.rand(3, device=DEVICE).isfinite().all()  # and goes on


@on_a_gpu
def test_tensors_that_move_are_followed(tiny_data):
    """Weights move to other places, and zero_grad() takes gradients away."""
    config = load_pretrain(["train=eqr_maze_unique", *SMALL, f"dataset.data_path={tiny_data}"])
    puzzles = Puzzles(str(tiny_data), "train", DEVICE)
    found = []
    for graphs in (False, True):
        trainer = a_trainer(config, puzzles, graphs)
        model = trainer.model
        for _ in range(3):
            trainer.train_step()
            model.zero_grad(set_to_none=True)
        losses = [trainer.train_step() for _ in range(3)]
        states = []
        for factor in (1.0, 1.5):
            model.load_state_dict({n: factor * t for n, t in model.state_dict().items()}, assign=True)
            seed(5)
            states += [i.state.latents for i in trajectory(model, puzzles.rows(np.arange(4)), 3)]
        found.append([*(tuple(step.values()) for step in losses), *states])
    for without, with_graphs in zip(*found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(without, with_graphs, strict=True))


@on_a_gpu
def test_evaluations_between_steps_of_training(tiny_data):
    config = load_pretrain(["train=eqr_sudoku", *SMALL, f"dataset.data_path={tiny_data}"])
    puzzles = Puzzles(str(tiny_data), "train", DEVICE)
    found = []
    for graphs in (False, True):
        trainer = a_trainer(config, puzzles, graphs)
        model = trainer.model
        found.append([])
        for _ in range(4):
            found[-1] += [tuple(trainer.train_step().values()) for _ in range(2)]
            assert trainer.ema is not None
            with trainer.ema.applied():
                seed(5)
                found[-1] += [i.state.latents for i in trajectory(model, puzzles.rows(np.arange(4)), 3)]
    for without, with_graphs in zip(*found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(without, with_graphs, strict=True))


class Recording:
    """Stands in for a CUDA graph, without a GPU. A replay computes anew and writes into the recording's tensors."""

    def __init__(self) -> None:
        self.function, self.parameters = Recording.of

    def gradients(self) -> list[torch.Tensor | None]:
        return [p.grad for p in self.parameters]

    def put(self, gradients) -> None:
        for p, gradient in zip(self.parameters, gradients, strict=True):
            p.grad = gradient

    @contextmanager
    def record(self):
        self.before = self.gradients()
        values = [None if g is None else g.clone() for g in self.before]
        yield
        self.after = self.gradients()
        for gradient, value in zip(self.before, values, strict=True):
            if gradient is not None:
                gradient.copy_(value)

    def replay(self) -> None:
        seen = self.gradients()
        self.put(self.before)
        results = self.function(*self.graphed._given)
        for old, new in zip(self.after, self.gradients(), strict=True):
            if old is not new:
                old.copy_(new)
        self.put(seen)
        for old, new in zip(self.graphed._results, results, strict=True):
            old.copy_(new)


@pytest.mark.parametrize("set_to_none", [False, True])
def test_gradients_that_are_taken_away_come_back(set_to_none, monkeypatch):
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, capture_error_mode: graph.record())
    losses = []
    for graphs in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)

        def step(x, model=model):
            loss = model(x).square().sum()
            loss.backward()
            return (loss.detach(),)

        Recording.of = step, list(model.parameters())
        run = Recording.graphed = Graphed(step, model) if graphs else step
        losses.append([])
        for i in range(6):
            losses[-1].append(float(run(torch.full((4, 3), (i + 1) / 6))[0]))
            optimizer.step()
            optimizer.zero_grad(set_to_none=set_to_none)
    assert losses[0] == losses[1] and len(set(losses[0])) == 6
