"""Solve puzzles with a checkpoint: several random starts each, keep the one that settled best.

    from solving import Solver

    solver = Solver.load("outputs/quickstart/<time>")
    [answer] = solver.solve(["2....4.3.......4"])
    print(answer.text, answer.valid, answer.residual)

Shapes: N puzzles, B starts a puzzle, R rows (trajectories that run together), S tokens, T iterations.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from config.schema import EvalConfig
from dataset.boards import Kind
from dataset.puzzles import NOT_SCORED, Batch, PuzzleShape
from evaluation.metrics import best_converged
from evaluation.trajectory import evaluating, trajectory
from models import precision
from models.core import Latents
from models.layers import Linear
from models.reasoner import Reasoner
from runtime.command import out_of_memory
from runtime.load import Loaded, build_for_evaluation, load_model
from solving.reading import read_each

WINDOW = 3
"""Iterations that the convergence score averages over, and that an answer must last to count as settled."""
_TOKENS = {"cpu": 2**11, "cuda": 2**16}
"""How many run together: enough to keep a device busy, few enough for memory, and for the first answer to come soon."""


class Trace(NamedTuple):
    """What a trajectory said after each iteration."""

    answers_TS: np.ndarray
    residual_T: np.ndarray  # NaN after the first, before which there was nothing to change


class Answer(NamedTuple):
    """What the best converged trajectory of a puzzle says, and how it got there."""

    tokens_S: np.ndarray
    residual: float  # its convergence score: the mean change of its last WINDOW iterations; NaN at depth 1
    confidence: float  # the model's own probability of being right, sigmoid(q_halt); 0 where that is not a number
    start: int  # which of the starts it came from
    iterations: int  # the iteration from which on the answer no longer changed
    settled_starts: int  # how many of the starts kept their answer through the last WINDOW iterations
    text: str | None = None  # the answer as text, where the puzzle was given as text
    valid: bool | None = None  # whether the rules hold, where the puzzle was given as text
    trace: Trace | None = None  # where asked for


class _Rows(NamedTuple):
    """R finished trajectories. The traces are empty (T = 0) where not asked for."""

    answers_RS: np.ndarray
    scores_R: np.ndarray
    confidence_R: np.ndarray
    since_R: np.ndarray
    traces_RTS: np.ndarray
    residuals_RT: np.ndarray


def _device(name: str) -> torch.device:
    """A device that works, by name; "auto" is a GPU where there is one."""
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
    """Casts the networks' weights to the dtype that every use of them casts them to: the same numbers, sooner."""
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
    """A model ready to answer puzzles of S tokens. Make one with `Solver.load`.

    Args:
        model: the model, on the device that is to work.
        shape: the shape of the puzzles that it answers.
    """

    def __init__(self, model: Reasoner, shape: PuzzleShape) -> None:
        self.model, self.puzzle_shape = model, shape
        self.device = next(model.parameters()).device
        self._rows = max(1, _TOKENS.get(self.device.type, 2**16) // shape.seq_len)

    @classmethod
    def load(
        cls, checkpoint: str, seq_len: int | None = None, vocab_size: int | None = None, device: str = "auto"
    ) -> "Solver":
        """From one of our checkpoints (a file, or a run directory) or a released `.pth`.

        A GPU computes in the checkpoint's own precision; a CPU in float32, except where bfloat16 is the
        checkpoint's own and the CPU is faster in it.

        Args:
            checkpoint: where it is.
            seq_len, vocab_size: of the puzzles; needed for released checkpoints, which do not say.
            device: "auto" (a GPU where there is one), or any that PyTorch knows.

        Raises:
            ValueError: there is no such checkpoint or device, or it was not trained on puzzles of this shape.
        """
        here = _device(device)
        loaded = load_model(checkpoint)
        shape = _puzzle_shape(loaded, seq_len, vocab_size)
        dtype = loaded.arch.forward_dtype
        if here.type == "cpu" and dtype in ("float16", "bfloat16"):
            dtype = "bfloat16" if dtype == "bfloat16" and precision.FAST_BFLOAT16 else "float32"
        # compiling takes longer than most puzzles
        config = EvalConfig(checkpoint=checkpoint, forward_dtype=dtype, kernels="off", compile=False)
        model = build_for_evaluation(loaded, config, shape, here)[1]
        _cast_once(model, getattr(torch, dtype))
        return cls(model, shape)

    def solve(
        self,
        puzzles: Sequence[str] | np.ndarray,
        depth: int = 16,
        breadth: int = 1,
        seed: int = 0,
        trace: bool = False,
    ) -> list[Answer]:
        """An answer to each puzzle, in their order.

        Args:
            puzzles: texts, each a Sudoku ("53..7...." and so on) or a maze (lines of # and spaces, S and G); or
                tokens [N, S], as a data set has them.
            depth: outer iterations.
            breadth: random starts of a puzzle, of which the best converged is kept.
            seed: of all random draws; torch's own generators are left alone.
            trace: whether answers carry what they were after each iteration.

        Raises:
            ValueError: a text is no puzzle, or the model was trained on others.
            MemoryError: there is not enough, on the GPU or beside it.
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
        """As `solve`, but answers come as they are found: memory does not grow with the number of puzzles."""
        if depth < 1 or breadth < 1:
            raise ValueError(f"depth and breadth should be at least 1, not {depth} and {breadth}")
        kind, puzzles_NS = (None, puzzles) if isinstance(puzzles, np.ndarray) else _read(puzzles)
        vocab_size = kind.vocab_size if kind else self.puzzle_shape.vocab_size
        if puzzles_NS.ndim != 2 or (puzzles_NS.shape[1], vocab_size) != self.puzzle_shape[:2]:
            asked = f"{kind.name}s" if kind else f"tokens of shape {list(puzzles_NS.shape)}"
            raise ValueError(
                f"the model was trained on puzzles of {self.puzzle_shape.seq_len} tokens out of "
                f"{self.puzzle_shape.vocab_size}, so it cannot answer {asked}"
            )
        if puzzles_NS.size and not 0 <= puzzles_NS.min() <= puzzles_NS.max() < vocab_size:
            raise ValueError(f"tokens should be from 0 to {vocab_size - 1}, but there are others")
        group = max(1, self._rows // breadth)
        for first in range(0, len(puzzles_NS), group):
            few_NS = puzzles_NS[first : first + group]
            for puzzle_S, answer in zip(
                few_NS, self._answers(few_NS, depth, breadth, (seed, first), trace), strict=True
            ):
                if kind is not None:
                    valid = kind.fault(puzzle_S, answer.tokens_S) is None
                    answer = answer._replace(text=kind.text(answer.tokens_S), valid=valid)
                yield answer

    def _answers(
        self, puzzles_NS: np.ndarray, depth: int, breadth: int, seed: tuple[int, int], trace: bool
    ) -> list[Answer]:
        """Answers to a few puzzles, whose trajectories run together as far as memory allows."""
        start = self.model.core.start if breadth == 1 else self.model.core.start.randomized(1.0)
        inputs_RS = np.repeat(puzzles_NS, breadth, axis=0).astype(np.int32)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
            pieces = [inputs_RS[first : first + self._rows] for first in range(0, len(inputs_RS), self._rows)]
            try:
                with evaluating(self.model):
                    parts = [self._run(piece_RS, start(len(piece_RS)), depth, trace) for piece_RS in pieces]
            except RuntimeError as error:
                if (what := out_of_memory(error)) is None:
                    raise
                raise MemoryError(what) from error
        rows = _Rows(*(np.concatenate(field) for field in zip(*parts, strict=True)))
        best_N = best_converged(rows.scores_R.reshape(-1, breadth), 1)[:, 0]
        settled_NB = ((rows.since_R <= depth - WINDOW) & ~np.isnan(rows.scores_R)).reshape(-1, breadth)
        return [
            Answer(
                rows.answers_RS[r],
                residual=float(rows.scores_R[r]),
                confidence=float(rows.confidence_R[r]),
                start=int(best_N[n]),
                iterations=int(rows.since_R[r]),
                settled_starts=int(settled_NB[n].sum()),
                trace=Trace(rows.traces_RTS[r], rows.residuals_RT[r]) if trace else None,
            )
            for n, r in enumerate(np.arange(len(best_N)) * breadth + best_N)
        ]

    def _run(self, inputs_RS: np.ndarray, latents: Latents, depth: int, trace: bool) -> _Rows:
        """R trajectories, from their first latents to the end."""
        inputs = torch.from_numpy(inputs_RS).to(self.device)
        R, S = inputs.shape
        ids = torch.zeros(R, dtype=torch.int32, device=self.device)
        since_R, before = torch.ones_like(ids), torch.full_like(inputs, -1)
        seen: list[Tensor] = []
        moved: list[Tensor] = []
        batch = Batch(inputs, torch.full_like(inputs, NOT_SCORED), ids)
        for iteration in trajectory(self.model, batch, depth, latents=latents, window=WINDOW):
            answers = iteration.readout.logits.argmax(-1).int()
            since_R = torch.where((answers != before).any(-1), iteration.state.steps, since_R)
            before = answers
            if trace:
                seen.append(answers.cpu())
                residual_R = iteration.residual_R
                moved.append(torch.full((R,), float("nan")) if residual_R is None else residual_R.cpu())
        score_R = iteration.score_R
        return _Rows(
            before.cpu().numpy(),
            np.full(R, np.nan) if score_R is None else score_R.double().cpu().numpy(),
            iteration.readout.q_halt.double().sigmoid().nan_to_num(0.0).cpu().numpy(),
            since_R.cpu().numpy(),
            torch.stack(seen, 1).numpy() if trace else np.empty((R, 0, S)),
            torch.stack(moved, 1).numpy() if trace else np.empty((R, 0)),
        )
