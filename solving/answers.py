"""Answers to puzzles by trajectories, whatever computes an iteration: several random starts, of which one answers.

Imports no PyTorch. Shapes: N puzzles, B starts per puzzle, R rows (trajectories that run together), S tokens,
T iterations, A of the R rows that still run.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from dataset.boards import Kind
from evaluation.metrics import best_converged
from solving.reading import read_each

WINDOW = 3
"""The convergence score averages so many residuals. An answer has settled if it did not change for so long."""

Accept = Callable[[np.ndarray, np.ndarray], bool]
"""(puzzle [S], answer [S]) -> whether the answer is right."""


class Trace(NamedTuple):
    """A trajectory, iteration by iteration."""

    answers_TS: np.ndarray
    residual_T: np.ndarray  # NaN for the first iteration: nothing was there to change


class Answer(NamedTuple):
    """The answer of a puzzle's best converged trajectory, or of the first that was accepted."""

    tokens_S: np.ndarray
    residual: float  # convergence score: the mean residual of the last WINDOW iterations; NaN at depth 1
    confidence: float  # the model's own probability of being right, sigmoid(q_halt); 0 if that is not a number
    start: int  # the number of the start that answers
    iterations: int  # the iteration in which the answer last changed
    settled_starts: int  # starts whose answer did not change in the last WINDOW iterations
    text: str | None = None  # the answer as text, if the puzzle was text
    valid: bool | None = None  # whether the answer keeps the rules, if the puzzle was text
    trace: Trace | None = None  # if asked for
    made: int = 0  # iterations made


class Iteration(NamedTuple):
    """What the rows that still run say after an iteration."""

    answers_AS: np.ndarray  # int32
    residual_A: np.ndarray  # float32; NaN in the first iteration
    q_halt_A: np.ndarray


class Rows(Protocol):
    """Trajectories that run together, one in each row."""

    def iterate(self) -> Iteration:
        """Makes one outer iteration of every row."""
        ...

    def keep(self, rows_A: np.ndarray) -> None:
        """Goes on with these rows alone, given by their places."""
        ...


class _Finished(NamedTuple):
    """R finished trajectories. Without traces, T is 0."""

    answers_RS: np.ndarray
    scores_R: np.ndarray
    q_halt_R: np.ndarray
    last_change_R: np.ndarray
    made_R: np.ndarray
    accepted_R: np.ndarray
    traces_RTS: np.ndarray
    residuals_RT: np.ndarray


def _follow(
    rows: Rows, inputs_RS: np.ndarray, puzzles_R: np.ndarray, depth: int, trace: bool, accept: Accept | None
) -> _Finished:
    """Runs trajectories to the given depth. All rows of a puzzle stop as soon as one of their answers is accepted."""
    R, S = inputs_RS.shape
    T = depth if trace else 0
    done = _Finished(
        answers_RS=np.full((R, S), -1, np.int32),
        scores_R=np.full(R, np.nan, np.float32),
        q_halt_R=np.zeros(R),
        last_change_R=np.ones(R, int),
        made_R=np.zeros(R, int),
        accepted_R=np.zeros(R, bool),
        traces_RTS=np.empty((R, T, S), np.int32),
        residuals_RT=np.empty((R, T), np.float32),
    )
    going_A = np.arange(R)
    residuals: deque[np.ndarray] = deque(maxlen=WINDOW)
    for iteration in range(1, depth + 1):
        answers_AS, residual_A, q_halt_A = rows.iterate()
        changed_A = going_A[(answers_AS != done.answers_RS[going_A]).any(-1)]
        done.last_change_R[changed_A] = iteration
        done.answers_RS[going_A], done.q_halt_R[going_A], done.made_R[going_A] = answers_AS, q_halt_A, iteration
        if iteration > 1:
            residuals.append(residual_A)
            done.scores_R[going_A] = np.mean(residuals, axis=0)
        if trace:
            done.traces_RTS[going_A, iteration - 1], done.residuals_RT[going_A, iteration - 1] = answers_AS, residual_A
        if accept is None:
            continue
        for r in changed_A:
            done.accepted_R[r] = accept(inputs_RS[r], done.answers_RS[r])
        left_A = np.flatnonzero(~np.isin(puzzles_R[going_A], puzzles_R[done.accepted_R]))
        if not len(left_A):
            break
        if len(left_A) < len(going_A):
            going_A = going_A[left_A]
            rows.keep(left_A)
            residuals = deque((residual_A[left_A] for residual_A in residuals), maxlen=WINDOW)
    return done


class Answering(ABC):
    """Answers puzzles of S tokens, however an iteration is computed.

    Args:
        seq_len, vocab_size: S and the number of tokens.
        rows: how many trajectories run together.
        learned: the kind of puzzles that the model was trained on, if that is known. Without it any of this shape do.
    """

    engine: ClassVar[str]
    """What computes: "torch" or "onnx"."""

    def __init__(self, seq_len: int, vocab_size: int, rows: int, learned: Kind | None) -> None:
        self._seq_len, self._vocab_size, self._rows, self.learned = seq_len, vocab_size, rows, learned

    def require(self, kind: Kind) -> None:
        """Raises ValueError if the model was trained on puzzles of another kind."""
        if self.learned and self.learned != kind:
            raise ValueError(f"the model was trained on {self.learned.name}s, so it cannot answer {kind.name}s")

    @abstractmethod
    def _begin(self, pieces: list[np.ndarray], several: bool, seed: int) -> Generator[Rows]:
        """Yields the trajectories of each piece [R, S] of the work in turn, before their first iteration.

        The seed decides all draws. `several` starts of a puzzle are random ones.
        """
        ...

    def solve(
        self,
        puzzles: Sequence[str] | np.ndarray,
        depth: int = 16,
        breadth: int = 1,
        seed: int = 0,
        trace: bool = False,
        accept: Accept | None = None,
    ) -> list[Answer]:
        """Answers puzzles, in their order.

        Args:
            puzzles: texts, or tokens [N, S] as in a data set. A text is a Sudoku ("53..7...." and so on) or a maze
                (lines of # and spaces, S and G).
            depth: outer iterations.
            breadth: random starts per puzzle. The best converged one answers.
            seed: decides all random draws. PyTorch's own generators stay as they are.
            trace: whether answers carry their traces.
            accept: (puzzle, answer) -> whether the answer is right. A puzzle stops at its first right answer.

        Raises:
            ValueError: a text is no puzzle, or the model was trained on others.
            MemoryError: the memory of the GPU or of the machine is too small.
        """
        return list(self.stream(puzzles, depth, breadth, seed, trace, accept))

    def stream(
        self,
        puzzles: Sequence[str] | np.ndarray,
        depth: int = 16,
        breadth: int = 1,
        seed: int = 0,
        trace: bool = False,
        accept: Accept | None = None,
    ) -> Iterator[Answer]:
        """Yields what `solve` returns, one answer after the other. Memory does not grow with the number of puzzles."""
        if depth < 1 or breadth < 1:
            raise ValueError(f"depth and breadth should be at least 1, not {depth} and {breadth}")
        kind: Kind | None = None
        if isinstance(puzzles, np.ndarray):
            puzzles_NS = puzzles
        else:
            kind, puzzles_NS = read_each([puzzles] if isinstance(puzzles, str) else puzzles)
            self.require(kind)
        vocab_size = kind.vocab_size if kind else self._vocab_size
        if puzzles_NS.ndim != 2 or (puzzles_NS.shape[1], vocab_size) != (self._seq_len, self._vocab_size):
            asked = f"{kind.name}s" if kind else f"tokens of shape {list(puzzles_NS.shape)}"
            raise ValueError(
                f"the model was trained on puzzles of {self._seq_len} tokens out of {self._vocab_size}, so it cannot "
                f"answer {asked}"
            )
        if puzzles_NS.size and not 0 <= puzzles_NS.min() <= puzzles_NS.max() < vocab_size:
            raise ValueError(f"tokens should be from 0 to {vocab_size - 1}, but there are others")
        group_size = max(1, self._rows // breadth)
        for first in range(0, len(puzzles_NS), group_size):
            group_NS = puzzles_NS[first : first + group_size]
            answers = self._answers(group_NS, depth, breadth, (seed, first), trace, accept)
            for puzzle_S, answer in zip(group_NS, answers, strict=True):
                if kind is not None:
                    valid = kind.fault(puzzle_S, answer.tokens_S) is None
                    answer = answer._replace(text=kind.text(answer.tokens_S), valid=valid)
                yield answer

    def _answers(
        self,
        puzzles_NS: np.ndarray,
        depth: int,
        breadth: int,
        seed: tuple[int, int],
        trace: bool,
        accept: Accept | None,
    ) -> list[Answer]:
        """Answers a group of puzzles. Their trajectories run together as far as memory allows."""
        N = len(puzzles_NS)
        inputs_RS = np.repeat(puzzles_NS, breadth, axis=0).astype(np.int32)
        cuts = range(self._rows, len(inputs_RS), self._rows)  # only of a single puzzle with many starts
        pieces, owners = np.split(inputs_RS, cuts), np.split(np.repeat(np.arange(N), breadth), cuts)
        parts: list[_Finished] = []
        with closing(self._begin(pieces, breadth > 1, int(np.random.SeedSequence(seed).generate_state(1)[0]))) as begun:
            for rows, piece_RS, puzzles_R in zip(begun, pieces, owners, strict=False):
                parts.append(_follow(rows, piece_RS, puzzles_R, depth, trace, accept))
                if len(pieces) > 1 and parts[-1].accepted_R.any():
                    break
        done = _Finished(*(np.concatenate(field) for field in zip(*parts, strict=True)))
        first_accepted_R = np.where(done.accepted_R, -np.inf, done.scores_R)
        best_N = best_converged(first_accepted_R.reshape(N, -1), 1)[:, 0]
        settled_NB = ((done.last_change_R <= done.made_R - WINDOW) & ~np.isnan(done.scores_R)).reshape(N, -1)
        return [
            Answer(
                done.answers_RS[r],
                residual=float(done.scores_R[r]),
                confidence=_sigmoid(float(done.q_halt_R[r])),
                start=int(best_N[n]),
                iterations=int(done.last_change_R[r]),
                settled_starts=int(settled_NB[n].sum()),
                trace=Trace(done.traces_RTS[r, :made], done.residuals_RT[r, :made]) if trace else None,
                made=made,
            )
            for n, r in enumerate(np.arange(N) * settled_NB.shape[1] + best_N)
            for made in [int(done.made_R[r])]
        ]


def _sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)); 0 if x is not a number."""
    with np.errstate(over="ignore"):
        return float(np.nan_to_num(1 / (1 + np.exp(-np.float64(x)))))
