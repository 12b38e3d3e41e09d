"""Solve puzzles with a checkpoint: several random starts each, keep the one that settled best."""

from typing import NamedTuple

import numpy as np
import torch

from config.schema import EvalConfig
from dataset.puzzles import NOT_SCORED, Batch, Task
from evaluation.load import build_for_evaluation, load_model
from evaluation.metrics import best_converged
from evaluation.trajectory import Residuals, trajectory
from models.reasoner import Reasoner


class Answer(NamedTuple):
    """What the best converged trajectory of a puzzle says."""

    tokens_S: np.ndarray
    residual: float  # its convergence score; NaN at depth 1, where there is none
    confidence: float  # the model's own probability of being right, sigmoid(q_halt)
    start: int  # which of the random starts it came from


class Solver:
    """A model ready to answer puzzles of S tokens."""

    def __init__(self, model: Reasoner) -> None:
        self.model = model.eval()

    @classmethod
    def load(cls, checkpoint: str, seq_len: int, vocab_size: int) -> "Solver":
        """From one of our checkpoints or a released `.pth`, on the CPU, in float32.

        Raises:
            ValueError: there is no such checkpoint, or it was not trained on puzzles of this shape.
        """
        loaded = load_model(checkpoint)
        table = [t for name, t in loaded.weights.items() if name.endswith("puzzle_emb.weights")]
        task = Task(seq_len, vocab_size, len(table[0]) if table else 1)
        config = EvalConfig(checkpoint=checkpoint, forward_dtype="float32")
        return cls(build_for_evaluation(loaded, config, task)[1])

    def solve(self, puzzles_NS: np.ndarray, depth: int = 16, breadth: int = 8, seed: int = 0) -> list[Answer]:
        """An answer to each puzzle of tokens, after `depth` outer iterations of `breadth` random starts."""
        N, S = puzzles_NS.shape
        torch.manual_seed(seed)
        inputs = torch.from_numpy(np.repeat(puzzles_NS, breadth, axis=0)).int()
        ids = torch.zeros(len(inputs), dtype=torch.int32)
        residuals = Residuals(window=3)
        for _, readout in trajectory(self.model, Batch(inputs, torch.full_like(inputs, NOT_SCORED), ids), depth):
            residuals.add(readout.logits)
        score = residuals.score()
        scores_NB = np.full((N, breadth), np.nan) if score is None else score.reshape(N, breadth).double().numpy()
        best_N = best_converged(scores_NB, 1)[:, 0]
        answers_NBS = readout.logits.argmax(-1).reshape(N, breadth, S).numpy()
        confidence_NB = readout.q_halt.sigmoid().reshape(N, breadth).numpy()
        return [
            Answer(answers_NBS[n, b], float(scores_NB[n, b]), float(confidence_NB[n, b]), int(b))
            for n, b in enumerate(best_N)
        ]
