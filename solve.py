"""Solve Sudokus and mazes with a trained model: python solve.py [PUZZLE | FILE] (docs/solve.md)."""

import argparse
import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path

try:
    from config.command import command
    from solving.gif import write_gif
    from solving.reading import read_from
    from solving.shipped import load
    from solving.verdict import EXIT_CODES, Verdict, verdicts
    from solving.watch import play
except ModuleNotFoundError as error:
    sys.exit(f"error: {sys.executable} has no {error.name}: bash scripts/install.sh makes .venv/bin/python with it")


def parse(words: list[str]) -> argparse.Namespace:
    """The command line. Ends the program where it is wrong."""
    parser = argparse.ArgumentParser(
        description="Solve Sudokus and mazes with a trained model.",
        epilog="exit codes: 0 solved, 1 a mistake in the command or the input, 2 an answer is not a solution, "
        "3 nor did any start converge, 4 a puzzle has no or several solutions; of many puzzles, the highest",
    )
    add = parser.add_argument
    add("puzzle", nargs="?", default="-", help="a puzzle, a file with one or many, or - for standard input (default)")
    add("--checkpoint", help="a checkpoint, or a run directory (default: the one that comes with this program)")
    add("--depth", type=int, default=16, metavar="N", help="outer iterations (default: 16)")
    add("--breadth", type=int, default=1, metavar="N", help="random starts, best converged wins (default: 1)")
    add("--json", action="store_true", help="print one JSON object a puzzle and nothing else")
    add("--watch", action="store_true", help="show the board after each iteration")
    add("--gif", type=Path, metavar="FILE", help="write the board after each iteration as a GIF (one puzzle)")
    try:
        given = parser.parse_args(words)
    except SystemExit as end:  # --help, or a mistake, for which argparse takes 2
        sys.exit(1 if end.code else 0)
    if given.depth < 1 or given.breadth < 1:
        raise ValueError(f"--depth and --breadth should be at least 1, not {given.depth} and {given.breadth}")
    if given.json and given.watch:
        raise ValueError("--json prints nothing but JSON, so it does not go with --watch")
    if (to := given.gif) and not (to.suffix.lower() == ".gif" and to.parent.is_dir() and to.is_file() == to.exists()):
        raise ValueError(f"--gif {to} should be a file to write, its name ending in .gif, in a folder that exists")
    return given


def show(verdict: Verdict, given: argparse.Namespace, title: str) -> None:
    """Prints a verdict as the command line asks."""
    if given.json:
        print(json.dumps(verdict.json()), flush=True)
        return
    if title:
        print(title)
    trace = verdict.answer.trace if verdict.answer else None
    if given.watch and trace is not None:
        play(verdict.kind, verdict.puzzle_S, trace, sys.stdout)
    print(verdict.board())
    print(verdict.sentence(), flush=True)


def run(given: argparse.Namespace) -> int:
    """Solves what the command line names. Returns the exit code."""
    puzzles = read_from(given.puzzle)
    if given.gif and len(puzzles) > 1:
        raise ValueError(f"--gif shows one puzzle, but there are {len(puzzles)}")
    seen: Counter[str] = Counter()
    solver, trace = partial(load, puzzles[0].kind, given.checkpoint), given.watch or given.gif is not None
    found = verdicts(puzzles, solver, given.depth, given.breadth, trace)
    for number, (puzzle, verdict) in enumerate(zip(puzzles, found, strict=True), start=1):
        show(verdict, given, f"puzzle {number} (line {puzzle.line})" if len(puzzles) > 1 else "")
        seen[verdict.status] += 1
        if given.gif and verdict.answer and verdict.answer.trace:
            write_gif(given.gif, puzzle.kind, puzzle.tokens_S, verdict.answer.trace)
        if given.gif:
            print(f"{'written' if verdict.answer else 'no answer, so not written'}: {given.gif}", file=sys.stderr)
    if len(puzzles) > 1 and not given.json:
        print(f"{len(puzzles)} puzzles:", ", ".join(f"{count} {status}" for status, count in seen.items()))
    return max(EXIT_CODES[status] for status in seen)


@command(unread=0)
def main(words: list[str]) -> int:
    """The command line. Exit code: `solving.verdict.EXIT_CODES`; 1 for a mistake in command or input."""
    try:
        return run(parse(words))
    except MemoryError:
        raise MemoryError("there is not enough memory; give a smaller --breadth") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
