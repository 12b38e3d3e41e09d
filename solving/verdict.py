"""What solve.py says of a puzzle: the answer, what the rules say about it, and an exit code for scripts."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dataset.boards import Kind, Maze
from solving.reading import Written

if TYPE_CHECKING:
    from solving.solver import Answer, Solver

EXIT_CODES = {"solved": 0, "wrong": 2, "not converged": 3, "several solutions": 4, "no solution": 4}
"""status -> exit code; 1 is a mistake in the command or the input. Of many puzzles, the highest counts."""
_AT_A_TIME = 256


class Verdict(NamedTuple):
    """A puzzle, its answer, and what holds. A puzzle without a solution is not put to the model."""

    kind: Kind
    puzzle_S: np.ndarray
    solutions: int  # counted up to 2
    answer: "Answer | None"
    fault: str | None  # what the rules hold against the answer
    depth: int
    breadth: int

    @property
    def status(self) -> str:
        """One of EXIT_CODES. A maze may have several shortest paths, of which any will do."""
        if self.answer is None:
            return "no solution"
        if self.solutions > 1 and not isinstance(self.kind, Maze):
            return "several solutions"
        if self.fault is None:
            return "solved"
        return "wrong" if self.answer.settled_starts else "not converged"

    def board(self) -> str:
        """The answer to look at; the puzzle where there is none."""
        return self.kind.drawn(self.puzzle_S if self.answer is None else self.answer.tokens_S)

    def sentence(self) -> str:
        """How it went, in one line."""
        if self.answer is None:
            why = "no open way leads from S to G" if isinstance(self.kind, Maze) else "no filling keeps all its clues"
            return f"no solution: {why} (found by search, without the model)"
        rules = "it keeps the rules" if self.fault is None else self.fault
        what = {
            "solved": "solved (checked by the rules)",
            "wrong": f"NOT solved, {rules} (more --depth or --breadth may help)",
            "not converged": f"NOT solved and nothing converged, {rules} (more --depth or --breadth may help)",
            "several solutions": f"several solutions, so none is the right one; of this answer, {rules}",
        }[self.status]
        paths = ", one of several shortest paths" if self.solutions > 1 and self.status == "solved" else ""
        return f"{what}{paths}; {self._course()}"

    def _course(self) -> str:
        assert self.answer is not None
        given, since = self.answer, self.answer.iterations
        last = "the answer last changed in" if since > 1 else "the answer has been the same since"
        starts = f", {given.settled_starts} of {self.breadth} starts converged" if self.breadth > 1 else ""
        residual = "" if math.isnan(given.residual) else f", residual {given.residual:.4f}"
        return f"{last} iteration {since} of {self.depth}{starts}{residual}, confidence {given.confidence:.1%}"

    def json(self) -> dict[str, Any]:
        """The same for programs. What is not known is None."""
        facts: dict[str, Any] = {
            "kind": self.kind.name,
            "puzzle": self.kind.text(self.puzzle_S),
            "status": self.status,
            "solutions": self.solutions,
            "answer": None,
            "valid": None,
            "fault": self.fault,
            "depth": self.depth,
            "breadth": self.breadth,
            **dict.fromkeys(("iterations", "settled_starts", "residual", "confidence")),
        }
        if self.answer is not None:
            facts["answer"] = self.kind.text(self.answer.tokens_S)
            facts["valid"] = self.fault is None
            facts["iterations"], facts["settled_starts"] = self.answer.iterations, self.answer.settled_starts
            facts["residual"] = None if math.isnan(self.answer.residual) else self.answer.residual
            facts["confidence"] = self.answer.confidence
        return facts


def verdicts(
    puzzles: Sequence[Written], load: "Callable[[], Solver]", depth: int, breadth: int, trace: bool
) -> Iterator[Verdict]:
    """A verdict on each of some puzzles of one kind, as they are found. `load` is called once it is needed."""
    kind = puzzles[0].kind
    solver: Solver | None = None
    for first in range(0, len(puzzles), _AT_A_TIME):
        few_NS = np.stack([puzzle.tokens_S for puzzle in puzzles[first : first + _AT_A_TIME]])
        counts_N = np.array([kind.solutions(puzzle_S) for puzzle_S in few_NS])
        if counts_N.any() and solver is None:
            solver = load()
        answers = solver.stream(few_NS[counts_N > 0], depth, breadth, trace=trace) if solver else iter(())
        for puzzle_S, count in zip(few_NS, counts_N.tolist(), strict=True):
            answer = next(answers) if count else None
            fault = kind.fault(puzzle_S, answer.tokens_S) if answer else None
            yield Verdict(kind, puzzle_S, count, answer, fault, depth, breadth)
