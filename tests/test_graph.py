"""Iterations as CUDA graphs: the same numbers, to the bit, as without them."""

import numpy as np
import pytest
import torch

from config.load import load_pretrain
from dataset.puzzles import Puzzles, TrainingBatches
from evaluation.trajectory import seed, trajectory
from models import backend, build, place
from training.distributed import World
from training.trainer import Trainer, seed_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

DEVICE = torch.device("cuda")
SMALL = ["arch.forward_dtype=bfloat16", "global_batch_size=8", "lr=1e-3", "lr_warmup_steps=1"]
RUNS = {
    "eqr_sudoku": ["arch.mlp_t=true"],
    "eqr_maze_unique": [],
    "hrm_sudoku": ["gradient_accumulation_steps=2"],
    "trm_arc1": ["arch.hidden_size=64", "arch.num_heads=4"],
    "hrm_sru": [],
    "feedforward_sudoku": [],
}


def chosen(config, graphs: bool) -> backend.Backend:
    return backend.choose(config.model_copy(update={"cuda_graphs": graphs}), config.arch, DEVICE)


@pytest.mark.parametrize("name", RUNS)
def test_training(name, tiny_data):
    config = load_pretrain([f"train={name}", *SMALL, *RUNS[name], f"dataset.data_path={tiny_data}"])
    puzzles = Puzzles(str(tiny_data), "train", DEVICE)
    found = []
    for graphs in (False, True):
        how = chosen(config, graphs)
        assert how.graphs is graphs
        seed_step(0, 0, 0)
        model = build(config.arch, puzzles.task, how)
        place(model, how, DEVICE)
        trainer = Trainer(config, model, TrainingBatches(puzzles, 8, 0, (0, 1)), World(0, 1, DEVICE), how.graphs)
        losses = [trainer.train_step() for _ in range(6)]
        found.append([*(tuple(step.values()) for step in losses), trainer.states[0].latents, tuple(model.parameters())])
    for without, with_graphs in zip(*found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(without, with_graphs, strict=True))
    assert not torch.equal(found[0][0][-1], found[0][1][-1])


def test_evaluation(tiny_data):
    """Also of fewer rows in between, and of weights that have changed since."""
    config = load_pretrain(["train=eqr_maze_unique", f"dataset.data_path={tiny_data}"])
    puzzles = Puzzles(str(tiny_data), "test", DEVICE)
    torch.manual_seed(0)
    plain, graphed = (build(config.arch, puzzles.task, chosen(config, graphs)) for graphs in (False, True))
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
            answers.append([torch.cat((r.logits.flatten(), *(z.flatten() for z in s.latents))) for s, r in steps])
        assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))
        assert not torch.equal(answers[1][0], answers[1][-1])


def test_code_that_waits_for_the_device_is_told_how_to_do_without():
    from models.kernels.graph import Graphed

    waiting = Graphed(lambda x: (x * float(x.sum()),), torch.nn.Identity())
    x = torch.ones(3, device=DEVICE)
    waiting(x)
    with pytest.raises(ValueError, match="cuda_graphs=false does without"):
        waiting(x)


def test_tensors_that_move_are_followed(tiny_data):
    """Weights put in other places, and gradients that were taken away, as zero_grad() does."""
    config = load_pretrain(["train=eqr_maze_unique", *SMALL, f"dataset.data_path={tiny_data}"])
    puzzles = Puzzles(str(tiny_data), "train", DEVICE)
    found = []
    for graphs in (False, True):
        how = chosen(config, graphs)
        seed_step(0, 0, 0)
        model = build(config.arch, puzzles.task, how)
        place(model, how, DEVICE)
        trainer = Trainer(config, model, TrainingBatches(puzzles, 8, 0, (0, 1)), World(0, 1, DEVICE), how.graphs)
        for _ in range(3):
            trainer.train_step()
            model.zero_grad(set_to_none=True)
        losses = [trainer.train_step() for _ in range(3)]
        states = []
        for factor in (1.0, 1.5):
            model.load_state_dict({n: factor * t for n, t in model.state_dict().items()}, assign=True)
            seed(5)
            states += [s.latents for s, _ in trajectory(model, puzzles.rows(np.arange(4)), 3)]
        found.append([*(tuple(step.values()) for step in losses), *states])
    for without, with_graphs in zip(*found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(without, with_graphs, strict=True))


def test_evaluations_between_steps_of_training(tiny_data):
    config = load_pretrain(["train=eqr_sudoku", *SMALL, f"dataset.data_path={tiny_data}"])
    puzzles = Puzzles(str(tiny_data), "train", DEVICE)
    found = []
    for graphs in (False, True):
        how = chosen(config, graphs)
        seed_step(0, 0, 0)
        model = build(config.arch, puzzles.task, how)
        place(model, how, DEVICE)
        trainer = Trainer(config, model, TrainingBatches(puzzles, 8, 0, (0, 1)), World(0, 1, DEVICE), how.graphs)
        found.append([])
        for _ in range(4):
            found[-1] += [tuple(trainer.train_step().values()) for _ in range(2)]
            assert trainer.ema is not None
            with trainer.ema.applied():
                seed(5)
                found[-1] += [s.latents for s, _ in trajectory(model, puzzles.rows(np.arange(4)), 3)]
    for without, with_graphs in zip(*found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(without, with_graphs, strict=True))
