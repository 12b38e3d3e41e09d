"""Solves Sudokus and mazes with a trained model: python solve.py [PUZZLE | FILE] (docs/solve.md)."""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from config.command import command
from runtime.files import require_place
from solving.gif import write_gif
from solving.reading import as_they_come, read_from
from solving.shipped import ENGINES
from solving.verdict import AT_A_TIME, EXIT_CODES, Verdict, verdicts
from solving.watch import play


def parse(words: list[str]) -> argparse.Namespace:
    """The options of the command line.

    Raises:
        ValueError: the options do not go together.
    """
    parser = argparse.ArgumentParser(
        description="Solve Sudokus and mazes with a trained model.",
        epilog="exit codes: 0 solved, 1 a mistake in the command or the input, 2 an answer is not a solution, "
        "3 nor did any start converge, 4 a puzzle has no or several solutions; of many puzzles, the highest",
    )
    add = parser.add_argument
    add("puzzle", nargs="?", default="-", help="a puzzle, a file with one or many, or - for standard input (default)")
    add("--checkpoint", help="a checkpoint, a run directory, an ONNX file or hf://OWNER/NAME (default: ours)")
    add("--engine", choices=ENGINES, default="auto", help="what computes (default: auto, the faster one)")
    add("--depth", type=int, default=16, metavar="N", help="outer iterations (default: 16)")
    add("--breadth", type=int, default=1, metavar="N", help="random starts; right, else best converged (default: 1)")
    add("--all", action="store_true", help="make all iterations, also after an answer that keeps the rules")
    add("--json", action="store_true", help="print one JSON object a puzzle and nothing else")
    add("--watch", action="store_true", help="show the board after each iteration")
    add("--gif", type=Path, metavar="FILE", help="write the board after each iteration as a GIF (one puzzle)")
    try:
        options = parser.parse_args(words)
    except SystemExit as end:  # argparse ends with 2 for a mistake, which here means a wrong answer
        sys.exit(1 if end.code else 0)
    if options.depth < 1 or options.breadth < 1:
        raise ValueError(f"--depth and --breadth should be at least 1, not {options.depth} and {options.breadth}")
    if options.json and options.watch:
        raise ValueError("--json prints nothing but JSON, so it does not go with --watch")
    if options.gif:
        require_place(options.gif, ".gif", "--gif ")
    return options


def show(verdict: Verdict, options: argparse.Namespace, title: str) -> None:
    """Writes the GIF of a verdict, and prints it, as the options ask."""
    trace = verdict.answer.trace if verdict.answer else None
    if options.gif and trace:
        write_gif(options.gif, verdict.kind, verdict.puzzle_S, trace)
    if options.json:
        print(json.dumps(verdict.json()), flush=True)
    else:
        if title:
            print(title)
        if options.watch and trace:
            play(verdict.kind, verdict.puzzle_S, trace, sys.stdout)
        print(verdict.board())
        print(verdict.sentence(), flush=True)
    if options.gif:
        print(f"{'written' if trace else 'no answer, so not written'}: {options.gif}", file=sys.stderr)


def run(options: argparse.Namespace) -> int:
    """Solves the puzzles that the options name. Returns the highest of their EXIT_CODES."""
    given = options.puzzle == "-"
    puzzles = as_they_come() if given and not options.gif else read_from(options.puzzle)
    many = isinstance(puzzles, list) and len(puzzles) > 1
    if options.gif and many:
        raise ValueError(f"--gif shows one puzzle, but there are {len(list(puzzles))}")
    shown = options.watch or options.gif is not None
    statuses: Counter[str] = Counter()
    how = (options.depth, options.breadth, shown, 1 if given else AT_A_TIME, options.all, options.engine)
    for verdict in verdicts(puzzles, options.checkpoint, *how):
        statuses[verdict.status] += 1
        title = f"puzzle {statuses.total()} (line {verdict.line})"
        show(verdict, options, title if many or statuses.total() > 1 else "")
    if statuses.total() > 1 and not options.json:
        print(f"{statuses.total()} puzzles:", ", ".join(f"{count} {status}" for status, count in statuses.items()))
    return max(EXIT_CODES[status] for status in statuses)


@command(unread=0)
def main(words: list[str]) -> int:
    """Runs the command line and returns its exit code (docs/solve.md)."""
    try:
        return run(parse(words))
    except MemoryError:
        raise MemoryError("there is not enough memory; give a smaller --breadth") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
