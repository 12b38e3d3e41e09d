"""Runs a few puzzles from a few random starts and keeps what pictures need after every iteration.

With the same settings and number of puzzles, the trajectories equal an evaluation's (`evaluation.units`).
Shapes: N puzzles, B starts per puzzle, D iterations, S tokens, F numbers in a latent; X is any number of things.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from config.fields import Role, keys
from config.load import validate
from config.schema import EvalConfig
from dataset.puzzles import Puzzles
from evaluation.by_group import read_numbers
from evaluation.engine import TorchEngine
from evaluation.observations import concatenate
from evaluation.settings import Settings, settings_for
from evaluation.trajectory import Starts, evaluating, seed, trajectory
from evaluation.units import Plan, unit_runs
from models.core import Start
from models.reasoner import Reasoner
from runtime import distributed
from runtime.load import build_for_evaluation, load_model

DEPTH, BREADTH = 16, 8
ROWS = 64
"""Trajectories at a time, unless an evaluation says how many. Few, so that progress shows."""


class Paths(NamedTuple):
    """The paths of a puzzle's B starts through the space of the latent that is read out, on its principal plane."""

    puzzle: int  # its number among the N
    points_BT2: np.ndarray  # the first two principal components, T = D + 1: the start, then after each iteration
    shares_2: np.ndarray  # each component's share of the variance
    right_B: np.ndarray  # bool: the path ends at the right answer


@dataclass(frozen=True)
class Sample:
    """D iterations of B starts on N puzzles. Index d stands for d + 1 iterations."""

    inputs_NS: np.ndarray
    labels_NS: np.ndarray  # below 0: not scored
    vocab_size: int
    answers_DNBS: np.ndarray
    right_DNB: np.ndarray  # bool: the whole answer is right
    residual_DNB: np.ndarray  # NaN after the first iteration
    scores_DNB: np.ndarray  # convergence scores; NaN after the first iteration
    q_halt_DNB: np.ndarray
    paths: list[Paths]
    difficulty_N: np.ndarray
    difficulty: str  # what difficulty_N measures
    facts: dict[str, str]
    learned_halting: bool = True  # whether q_halt means something

    @property
    def depth(self) -> int:
        """D, the number of iterations."""
        return len(self.right_DNB)

    @property
    def puzzles(self) -> int:
        """N, the number of puzzles."""
        return self.right_DNB.shape[1]

    @property
    def breadth(self) -> int:
        """B, the number of starts per puzzle."""
        return self.right_DNB.shape[2]


def config_of(checkpoint: Path, results: dict[str, Any] | None) -> EvalConfig:
    """The configuration for a sample: few starts and a large depth, else the settings in an evaluation's results."""
    settings: dict[str, Any] = results["settings"] if results else {"global_batch_size": ROWS}
    breadth = settings.get("different_init", 1)
    changes = {
        "checkpoint": str(checkpoint),
        "halt_max_steps": max(DEPTH, *settings.get("halt_max_steps", [DEPTH])),
        "different_init": min(breadth, BREADTH) if breadth > 1 else BREADTH,
        "compile": False,
    }
    kept = EvalConfig.model_fields.keys() - keys(EvalConfig, Role.EXTENT, Role.STREAMING)
    return validate(EvalConfig, {key: settings[key] for key in kept & settings.keys()} | changes)


def _build(config: EvalConfig) -> tuple[Settings, Reasoner, Start, Puzzles, dict[str, str]]:
    """Everything that a sample needs. Breadth becomes 1 for a model that cannot start at random."""
    world = distributed.start(config.device)
    loaded = load_model(config.checkpoint, config.ema)
    data = Puzzles(config.dataset_data_path or loaded.data_path, config.split, world.device)
    if not loaded.arch.random_starts:
        config = config.model_copy(update={"different_init": 1})
    arch, model, start, _ = build_for_evaluation(loaded, config, data.shape, world.device)
    settings = settings_for(config, arch)
    settings = replace(settings, depths=list(range(1, max(settings.depths) + 1)))
    facts = {
        "model": arch.name,
        "checkpoint": str(loaded.origin),
        "step": str(loaded.step),
        "weights": "averaged (EMA)" if loaded.averaged else "raw",
        "data": f"{config.dataset_data_path or loaded.data_path}, {config.split}",
    }
    return settings, model, start, data, facts


def take_sample(config: EvalConfig, puzzles: int, ratings: Path | None = None) -> Sample:
    """Runs a few puzzles.

    Args:
        config: how to run them.
        puzzles: how many, evenly spread over the data.
        ratings: a CSV with a row for each puzzle of the data, in order. Its column `rating` is the difficulty; without
            a CSV the number of cells to fill in is.

    Raises:
        ValueError: the checkpoint, its data or the CSV is missing, or they do not fit together.
    """
    settings, model, start, data, facts = _build(config)
    known = np.flatnonzero(~data.unanswered_E)
    if not len(known):
        raise ValueError(f"{facts['data']}: no puzzle has a known answer, so there is nothing to compare with")
    plan = Plan.of(settings, len(known), puzzles)
    plan = plan._replace(examples_N=known[plan.examples_N])
    rating_E = None if ratings is None else read_numbers(ratings, "rating", len(data))
    runs = list(unit_runs(TorchEngine(model, start, data, settings), plan, plan.units, progress=True))
    observations = [concatenate([run.by_depth[depth] for run in runs]) for depth in settings.depths]
    N, B = len(plan.examples_N), settings.breadth
    batch = data.rows(plan.examples_N)
    inputs_NS, labels_NS = batch.inputs.cpu().numpy(), batch.labels.cpu().numpy()
    none_NB = np.full((N, B), np.nan)
    right_DNB = np.stack([o.values["exact_accuracy"].reshape(N, B) for o in observations]).astype(bool)
    return Sample(
        inputs_NS,
        labels_NS,
        data.shape.vocab_size,
        np.stack([o.predictions_RS.reshape(N, B, -1) for o in observations]),
        right_DNB,
        np.stack([o.values.get("residual", none_NB).reshape(N, B) for o in observations]),
        np.stack([o.scores_R.reshape(N, B) for o in observations]),
        np.stack([o.q_halt_R.reshape(N, B) for o in observations]),
        [_paths(model, start, data, plan.examples_N, puzzle, settings) for puzzle in telling(right_DNB)],
        cells_to_fill_in(inputs_NS, labels_NS) if rating_E is None else rating_E[plan.examples_N],
        "cells to fill in" if rating_E is None else "rating",
        facts,
        settings.learned_halting,
    )


def _paths(
    model: Reasoner, start: Start, data: Puzzles, examples_N: np.ndarray, puzzle: int, settings: Settings
) -> Paths:
    """Runs a puzzle's starts once more, for their latents."""
    B = settings.breadth
    latents = Starts(start, settings.seed)(np.full(B, puzzle), np.arange(B), data.device)
    seed(settings.seed, 1, 0, 0)
    batch = data.rows(np.full(B, examples_N[puzzle]))
    points = [_flat(latents[0])]
    with evaluating(model):
        for iteration in trajectory(model, batch, max(settings.depths), settings.perturb_std, latents):
            points.append(_flat(iteration.state.latents[0]))
    right = ((iteration.readout.logits.argmax(-1) == batch.labels) | (batch.labels < 0)).all(-1)
    points_BTF = np.stack(points, 1)
    points_X2, shares_2 = principal(points_BTF.reshape(-1, points_BTF.shape[-1]))
    return Paths(puzzle, points_X2.reshape(B, -1, 2), shares_2, right.cpu().numpy())


def _flat(z_BLD: torch.Tensor) -> np.ndarray:
    return z_BLD.float().flatten(1).cpu().numpy()


def cells_to_fill_in(inputs_NS: np.ndarray, labels_NS: np.ndarray) -> np.ndarray:
    """How many cells the answer changes [N]: the blanks of a Sudoku, the path of a maze."""
    return np.asarray(((labels_NS >= 0) & (labels_NS != inputs_NS)).sum(1))


def settled_at(right_DX: np.ndarray) -> np.ndarray:
    """The iteration, counted from 1, from which on an answer stays right [X]; D + 1 if the last one is wrong."""
    wrong_DX = ~right_DX[::-1]
    D = len(right_DX)
    return np.where(wrong_DX.any(0), D - wrong_DX.argmax(0), 0) + 1


def telling(right_DNB: np.ndarray) -> list[int]:
    """Up to two puzzles: of those that all starts solve the one solved last, and the one whose starts disagree most.

    Without either, the first puzzle.
    """
    solved_N = right_DNB[-1].mean(1)
    together_N = np.flatnonzero(solved_N == 1)
    mixed_N = np.flatnonzero((solved_N > 0) & (solved_N < 1))
    late_N = settled_at(right_DNB).mean(1)
    puzzles = [int(together_N[np.argmax(late_N[together_N])])] if len(together_N) else []
    puzzles += [int(mixed_N[np.argmin(abs(solved_N[mixed_N] - 0.5))])] if len(mixed_N) else []
    return puzzles or [0]


def principal(points_XF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two principal components [X, 2] and their shares of the variance [2]. X is small, F may be large."""
    centred_XF = points_XF - points_XF.mean(0)
    values, vectors = np.linalg.eigh(centred_XF @ centred_XF.T)  # ascending
    two = np.maximum(values[:-3:-1], 0)
    return vectors[:, :-3:-1] * np.sqrt(two), two / max(values.clip(0).sum(), 1e-30)
