"""The verdict on a puzzle: the model's answer, the judgement of the rules, and an exit code for scripts."""

import math
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from dataset.boards import Kind
from solving.answers import Answer, Answering
from solving.reading import Puzzle
from solving.shipped import load

EXIT_CODES = {"solved": 0, "wrong": 2, "not converged": 3, "several solutions": 4, "no solution": 4}
"""status -> exit code. 1 is a mistake in the command or the input. Of many puzzles, the highest counts."""
AT_A_TIME = 256
"""Puzzles that are judged together. Of one puzzle at a time, each is answered as if it were the only one."""
_HINT = "(more --depth or --breadth may help)"


class Verdict(NamedTuple):
    """A puzzle, its answer and the judgement of the rules. The model never sees a puzzle without a solution."""

    kind: Kind
    puzzle_S: np.ndarray
    solutions: int  # counted up to 2
    answer: Answer | None
    fault: str | None  # how the answer breaks the rules
    depth: int
    breadth: int
    line: int = 1  # that the puzzle starts in
    engine: str | None = None  # that computed the answer

    @property
    def status(self) -> str:
        """A key of EXIT_CODES."""
        if self.answer is None:
            return "no solution"
        if self.solutions > 1 and self.kind.needs_one_solution:
            return "several solutions"
        if self.fault is None:
            return "solved"
        return "wrong" if self.answer.settled_starts else "not converged"

    def board(self) -> str:
        """The answer as a picture for the terminal, or the puzzle if there is no answer."""
        return self.kind.drawn(self.puzzle_S if self.answer is None else self.answer.tokens_S)

    def sentence(self) -> str:
        """The outcome in one line."""
        if self.answer is None:
            return f"no solution: {self.kind.no_solution} (found by search, without the model)"
        rules = "it keeps the rules" if self.fault is None else self.fault
        several = self.kind.several_solutions
        outcome = {
            "solved": f"solved (checked by the rules){f', {several}' if self.solutions > 1 else ''}",
            "wrong": f"NOT solved, {rules} {_HINT}",
            "not converged": f"NOT solved and nothing converged, {rules} {_HINT}",
            "several solutions": f"{several}; of this answer, {rules}",
        }[self.status]
        return f"{outcome}; {_course(self.answer, self.depth, self.breadth)}"

    def json(self) -> dict[str, Any]:
        """The verdict for programs. Unknown values are None."""
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
            "engine": self.engine,
            **dict.fromkeys(("iterations", "settled_starts", "residual", "confidence")),
        }
        if self.answer is not None:
            facts["answer"] = self.kind.text(self.answer.tokens_S)
            facts["valid"] = self.fault is None
            facts["iterations"], facts["settled_starts"] = self.answer.iterations, self.answer.settled_starts
            facts["residual"] = None if math.isnan(self.answer.residual) else self.answer.residual
            facts["confidence"] = self.answer.confidence
        return facts


def _course(answer: Answer, depth: int, breadth: int) -> str:
    """The course of an answer: when it last changed, how many starts converged, residual, confidence."""
    since = answer.iterations
    change = "the answer last changed in" if since > 1 else "the answer has been the same since"
    starts = f", {answer.settled_starts} of {breadth} starts converged" if breadth > 1 else ""
    if answer.made < depth:
        change, starts = "found in", f" by start {answer.start + 1} of {breadth}" if breadth > 1 else ""
    residual = "" if math.isnan(answer.residual) else f", residual {answer.residual:.4f}"
    return f"{change} iteration {since} of {depth}{starts}{residual}, confidence {answer.confidence:.1%}"


def verdicts(
    puzzles: Iterable[Puzzle],
    checkpoint: str | None,
    depth: int,
    breadth: int,
    trace: bool = False,
    at_a_time: int = AT_A_TIME,
    every: bool = False,
    engine: str = "auto",
) -> Iterator[Verdict]:
    """Yields a verdict on every puzzle, as soon as it has an answer. Loads the model only for puzzles with a solution.

    Args:
        puzzles: of one kind; `at_a_time` of them are taken before the first of them is answered.
        checkpoint: the checkpoint to load; None for the shipped one.
        depth, breadth, trace: as in `Solver.solve`.
        every: whether to make all iterations, also after an answer that keeps the rules.
        engine: what computes, as in `shipped.load`.

    Raises:
        ValueError: there is no such checkpoint, or it was trained on other puzzles.
        MemoryError: the memory of the GPU or of the machine is too small.
    """
    coming = iter(puzzles)
    solver: Answering | None = None
    while group := list(islice(coming, at_a_time)):
        kind, puzzles_NS = group[0].kind, np.stack([puzzle.tokens_S for puzzle in group])
        solutions_N = np.array([kind.solutions(puzzle_S) for puzzle_S in puzzles_NS])
        if solutions_N.any() and solver is None:
            solver = load(kind, checkpoint, engine)
        accept = None if every else partial(_keeps_the_rules, kind)
        solvable_NS = puzzles_NS[solutions_N > 0]
        answers = solver.stream(solvable_NS, depth, breadth, trace=trace, accept=accept) if solver else iter(())
        for puzzle, solutions in zip(group, solutions_N.tolist(), strict=True):
            answer = next(answers) if solutions else None
            fault = kind.fault(puzzle.tokens_S, answer.tokens_S) if answer else None
            used = solver.engine if solver and answer else None
            yield Verdict(kind, puzzle.tokens_S, solutions, answer, fault, depth, breadth, puzzle.line, used)


def _keeps_the_rules(kind: Kind, puzzle_S: np.ndarray, answer_S: np.ndarray) -> bool:
    return kind.fault(puzzle_S, answer_S) is None
