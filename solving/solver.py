"""Solves puzzles with a checkpoint: several random starts for each puzzle, of which the best converged answers.

    from solving import Solver

    solver = Solver.load("outputs/quickstart/<time>")
    [answer] = solver.solve(["2....4.3.......4"])
    print(answer.text, answer.valid, answer.residual)

Shapes: N puzzles, B starts per puzzle, R rows (trajectories that run together), S tokens, T iterations.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from config.schema import EvalConfig
from dataset.boards import Kind, are_alike
from dataset.puzzles import NOT_SCORED, Batch, PuzzleShape
from evaluation.metrics import best_converged
from evaluation.trajectory import evaluating, trajectory
from models import precision
from models.core import Latents
from models.layers import Linear
from models.reasoner import Reasoner
from runtime.command import out_of_memory
from runtime.load import Loaded, build_for_evaluation, learned_kind, load_model
from solving.reading import read_each

WINDOW = 3
"""The convergence score averages so many residuals. An answer has settled if it did not change for so long."""
_TOKENS = {"cpu": 2**11, "cuda": 2**16}
"""So many tokens run together: enough to keep a device busy, few enough for memory and for a quick first answer."""


class Trace(NamedTuple):
    """A trajectory, iteration by iteration."""

    answers_TS: np.ndarray
    residual_T: np.ndarray  # NaN for the first iteration: nothing was there to change


class Answer(NamedTuple):
    """The answer of a puzzle's best converged trajectory."""

    tokens_S: np.ndarray
    residual: float  # convergence score: the mean residual of the last WINDOW iterations; NaN at depth 1
    confidence: float  # the model's own probability of being right, sigmoid(q_halt); 0 if that is not a number
    start: int  # the number of the start that answers
    iterations: int  # the iteration in which the answer last changed
    settled_starts: int  # starts whose answer did not change in the last WINDOW iterations
    text: str | None = None  # the answer as text, if the puzzle was text
    valid: bool | None = None  # whether the answer keeps the rules, if the puzzle was text
    trace: Trace | None = None  # if asked for


class _Finished(NamedTuple):
    """R finished trajectories. Without traces, T is 0."""

    answers_RS: np.ndarray
    scores_R: np.ndarray
    confidence_R: np.ndarray
    last_change_R: np.ndarray
    traces_RTS: np.ndarray
    residuals_RT: np.ndarray


def _device(name: str) -> torch.device:
    """The device of this name, after a test that it works. "auto" is a GPU if there is one."""
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # unknown, not there, or not in this build of PyTorch
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device should be auto, cpu, cuda or cuda:N of this machine, not {name!r}: {reason}"
        ) from None
    return device


def _cast_once(model: Reasoner, dtype: torch.dtype) -> None:
    """Casts the networks' weights once, instead of at every use. The numbers stay the same."""
    for network in model.core.networks():
        for module in network.modules():
            if isinstance(module, Linear):
                module.to(dtype)


def _puzzle_shape(loaded: Loaded, seq_len: int | None, vocab_size: int | None) -> PuzzleShape:
    if seq_len is None or vocab_size is None:
        if loaded.puzzle_shape is None:
            raise ValueError(f"{loaded.origin} does not say what it was trained on: give seq_len and vocab_size")
        return loaded.puzzle_shape
    table = [t for name, t in loaded.weights.items() if name.endswith("puzzle_emb.weights")]
    return PuzzleShape(seq_len, vocab_size, len(table[0]) if table else 1)


def _read(puzzles: str | Sequence[str]) -> tuple[Kind, np.ndarray]:
    return read_each([puzzles] if isinstance(puzzles, str) else puzzles)


class Solver:
    """Answers puzzles of S tokens with a model. Make one with `Solver.load`.

    Args:
        model: on the device that computes. Its mode and its starts stay as they are.
        shape: the shape of its puzzles.
        learned: the kind of puzzles that it was trained on, if that is known. Without it any of this shape will do.
    """

    def __init__(self, model: Reasoner, shape: PuzzleShape, learned: Kind | None = None) -> None:
        self.model, self.puzzle_shape, self.learned = model, shape, learned
        self.device = next(model.parameters()).device
        self._rows = max(1, _TOKENS.get(self.device.type, 2**16) // shape.seq_len)

    @classmethod
    def load(
        cls, checkpoint: str, seq_len: int | None = None, vocab_size: int | None = None, device: str = "auto"
    ) -> "Solver":
        """A solver from one of our checkpoints (a file, or a run directory) or a released `.pth`.

        A GPU computes in the checkpoint's own precision. A CPU computes in float32, but in bfloat16 if that is the
        checkpoint's own and faster on this CPU.

        Args:
            checkpoint: its path.
            seq_len, vocab_size: the shape of the puzzles. Released checkpoints need it, because they do not say.
            device: "auto" (a GPU if there is one), or any device that PyTorch knows.

        Raises:
            ValueError: there is no such checkpoint or device, or it was not trained on puzzles of this shape.
        """
        torch_device = _device(device)
        loaded = load_model(checkpoint)
        shape = _puzzle_shape(loaded, seq_len, vocab_size)
        dtype = loaded.arch.forward_dtype
        if torch_device.type == "cpu" and dtype in ("float16", "bfloat16"):
            dtype = "bfloat16" if dtype == "bfloat16" and precision.FAST_BFLOAT16 else "float32"
        # Nothing is compiled: that takes longer than most puzzles.
        config = EvalConfig(checkpoint=checkpoint, forward_dtype=dtype, kernels="off", compile=False)
        model = build_for_evaluation(loaded, config, shape, torch_device).model
        _cast_once(model, getattr(torch, dtype))
        return cls(model, shape, learned_kind(loaded) if are_alike(*shape[:2]) else None)

    def require(self, kind: Kind) -> None:
        """Raises ValueError if the model was trained on puzzles of another kind."""
        if self.learned and self.learned != kind:
            raise ValueError(f"the model was trained on {self.learned.name}s, so it cannot answer {kind.name}s")

    def solve(
        self,
        puzzles: Sequence[str] | np.ndarray,
        depth: int = 16,
        breadth: int = 1,
        seed: int = 0,
        trace: bool = False,
    ) -> list[Answer]:
        """Answers puzzles, in their order.

        Args:
            puzzles: texts, or tokens [N, S] as in a data set. A text is a Sudoku ("53..7...." and so on) or a maze
                (lines of # and spaces, S and G).
            depth: outer iterations.
            breadth: random starts per puzzle. The best converged one answers.
            seed: decides all random draws. PyTorch's own generators stay as they are.
            trace: whether answers carry their traces.

        Raises:
            ValueError: a text is no puzzle, or the model was trained on others.
            MemoryError: the memory of the GPU or of the machine is too small.
        """
        return list(self.stream(puzzles, depth, breadth, seed, trace))

    def stream(
        self,
        puzzles: Sequence[str] | np.ndarray,
        depth: int = 16,
        breadth: int = 1,
        seed: int = 0,
        trace: bool = False,
    ) -> Iterator[Answer]:
        """Yields what `solve` returns, one answer after the other. Memory does not grow with the number of puzzles."""
        if depth < 1 or breadth < 1:
            raise ValueError(f"depth and breadth should be at least 1, not {depth} and {breadth}")
        kind, puzzles_NS = (None, puzzles) if isinstance(puzzles, np.ndarray) else _read(puzzles)
        if kind is not None:
            self.require(kind)
        vocab_size = kind.vocab_size if kind else self.puzzle_shape.vocab_size
        if puzzles_NS.ndim != 2 or (puzzles_NS.shape[1], vocab_size) != self.puzzle_shape[:2]:
            asked = f"{kind.name}s" if kind else f"tokens of shape {list(puzzles_NS.shape)}"
            raise ValueError(
                f"the model was trained on puzzles of {self.puzzle_shape.seq_len} tokens out of "
                f"{self.puzzle_shape.vocab_size}, so it cannot answer {asked}"
            )
        if puzzles_NS.size and not 0 <= puzzles_NS.min() <= puzzles_NS.max() < vocab_size:
            raise ValueError(f"tokens should be from 0 to {vocab_size - 1}, but there are others")
        group_size = max(1, self._rows // breadth)
        for first in range(0, len(puzzles_NS), group_size):
            group_NS = puzzles_NS[first : first + group_size]
            answers = self._answers(group_NS, depth, breadth, (seed, first), trace)
            for puzzle_S, answer in zip(group_NS, answers, strict=True):
                if kind is not None:
                    valid = kind.fault(puzzle_S, answer.tokens_S) is None
                    answer = answer._replace(text=kind.text(answer.tokens_S), valid=valid)
                yield answer

    def _answers(
        self, puzzles_NS: np.ndarray, depth: int, breadth: int, seed: tuple[int, int], trace: bool
    ) -> list[Answer]:
        """Answers a group of puzzles. Their trajectories run together as far as memory allows."""
        start = self.model.core.start if breadth == 1 else self.model.core.start.randomized(1.0)
        inputs_RS = np.repeat(puzzles_NS, breadth, axis=0).astype(np.int32)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
            pieces = [inputs_RS[first : first + self._rows] for first in range(0, len(inputs_RS), self._rows)]
            try:
                with evaluating(self.model):
                    parts = [self._run(piece_RS, start(len(piece_RS)), depth, trace) for piece_RS in pieces]
            except RuntimeError as error:
                if (memory := out_of_memory(error)) is None:
                    raise
                raise MemoryError(memory) from error
        rows = _Finished(*(np.concatenate(field) for field in zip(*parts, strict=True)))
        best_N = best_converged(rows.scores_R.reshape(-1, breadth), 1)[:, 0]
        settled_NB = ((rows.last_change_R <= depth - WINDOW) & ~np.isnan(rows.scores_R)).reshape(-1, breadth)
        return [
            Answer(
                rows.answers_RS[r],
                residual=float(rows.scores_R[r]),
                confidence=float(rows.confidence_R[r]),
                start=int(best_N[n]),
                iterations=int(rows.last_change_R[r]),
                settled_starts=int(settled_NB[n].sum()),
                trace=Trace(rows.traces_RTS[r], rows.residuals_RT[r]) if trace else None,
            )
            for n, r in enumerate(np.arange(len(best_N)) * breadth + best_N)
        ]

    def _run(self, inputs_RS: np.ndarray, latents: Latents, depth: int, trace: bool) -> _Finished:
        """Runs R trajectories from these latents to the given depth."""
        inputs = torch.from_numpy(inputs_RS).to(self.device)
        R, S = inputs.shape
        puzzle_ids = torch.zeros(R, dtype=torch.int32, device=self.device)
        batch = Batch(inputs, torch.full_like(inputs, NOT_SCORED), puzzle_ids)
        last_change_R, answers_RS = torch.ones_like(puzzle_ids), torch.full_like(inputs, -1)
        traces: list[Tensor] = []
        residuals: list[Tensor] = []
        for iteration in trajectory(self.model, batch, depth, latents=latents, window=WINDOW):
            before_RS, answers_RS = answers_RS, iteration.readout.logits.argmax(-1).int()
            last_change_R = torch.where((answers_RS != before_RS).any(-1), iteration.state.steps, last_change_R)
            if trace:
                traces.append(answers_RS.cpu())
                residual_R = iteration.residual_R
                residuals.append(torch.full((R,), float("nan")) if residual_R is None else residual_R.cpu())
        score_R = iteration.score_R
        return _Finished(
            answers_RS.cpu().numpy(),
            np.full(R, np.nan) if score_R is None else score_R.double().cpu().numpy(),
            iteration.readout.q_halt.double().sigmoid().nan_to_num(0.0).cpu().numpy(),
            last_change_R.cpu().numpy(),
            torch.stack(traces, 1).numpy() if trace else np.empty((R, 0, S)),
            torch.stack(residuals, 1).numpy() if trace else np.empty((R, 0)),
        )
