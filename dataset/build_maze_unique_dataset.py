"""Builds Maze-Unique as the released builder does: mazes with a shortest path of a chosen length.

    python -m dataset.build_maze_unique_dataset --grid-size 30 --train-samples 1000 --test-samples 1000 \\
        --maze-mode perfect --length-distribution uniform --min-path-length 100 --max-path-length 140 \\
        --require-unique --dedupe --output-dir data/maze-30x30-unique-1k
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from config.command import command, unwinding
from dataset.layout import Split, check_replaceable, puzzle_split, write_dataset
from dataset.maze import (
    GOAL,
    PATH,
    START,
    VOCAB_SIZE,
    Draw,
    Grid,
    carve,
    integers,
    is_only_shortest,
    scatter,
    search,
)
from dataset.progress import counted


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line, with defaults."""
    parser = argparse.ArgumentParser(
        description="Build Maze-Unique: random mazes with a shortest path of a chosen length (in steps).",
        epilog="The same options and seed give the same mazes as the released builder, to the bit.",
    )
    add = parser.add_argument
    add("--output-dir", type=Path, help="folder to write (default: data/maze-<n>x<n>-unique)")
    add("--grid-size", type=int, default=30, metavar="N", help="cells a side (default: %(default)s)")
    add("--train-samples", type=int, default=1000, metavar="N", help="default: %(default)s")
    add("--test-samples", type=int, default=1000, metavar="N", help="default: %(default)s")
    add("--seed", type=int, default=42, help="default: %(default)s")
    add(
        "--maze-mode",
        choices=("random", "perfect"),
        default="random",
        help="random: each cell a wall by chance; perfect: corridors without loops (default: %(default)s)",
    )
    add("--wall-prob", type=float, default=0.37, metavar="P", help="for random mazes (default: %(default)s)")
    for name, yes, meaning in [
        ("--require-unique", False, "only mazes with exactly one shortest path"),
        ("--dedupe", False, "no maze twice, within and across train and test"),
        ("--strict-length", True, "stop if a drawn length is not found; else draw another"),
    ]:
        usual = "the default" if yes else "default: no"
        add(name, action=argparse.BooleanOptionalAction, default=yes, help=f"{meaning} ({usual})")
    add(
        "--length-distribution",
        choices=("uniform", "fixed", "normal", "list"),
        default="uniform",
        help="how the path length of each maze is drawn (default: %(default)s)",
    )
    add("--min-path-length", type=int, default=1, metavar="N", help="uniform, normal (default: %(default)s)")
    add("--max-path-length", type=int, metavar="N", help="uniform, normal (default: the grid size)")
    add("--length-value", type=int, metavar="N", help="fixed (default: the grid size)")
    add("--length-mean", type=float, metavar="X", help="normal (default: half way from min to max)")
    add("--length-std", type=float, metavar="X", help="normal (default: a sixth of the way from min to max)")
    add("--length-values", type=int, nargs="+", default=[], metavar="N", help="list: the lengths (needed)")
    add("--length-weights", type=float, nargs="+", default=[], metavar="W", help="list (default: all equal)")
    for name, default, meaning in [
        ("--max-length-resamples", 100, "lengths drawn for a maze"),
        ("--max-grid-attempts", 200, "grids for a length"),
        ("--max-start-attempts", 200, "starts in a grid"),
    ]:
        add(name, type=int, default=default, metavar="N", help=f"{meaning}, at most (default: {default})")
    options = parser.parse_args(arguments)
    if options.output_dir is None:
        options.output_dir = Path(f"data/maze-{options.grid_size}x{options.grid_size}-unique")
    if options.length_value is None:
        options.length_value = options.grid_size
    if options.max_path_length is None:
        options.max_path_length = options.grid_size
    if options.length_mean is None:
        options.length_mean = (options.min_path_length + options.max_path_length) / 2
    if options.length_std is None:
        options.length_std = max(0, options.max_path_length - options.min_path_length) / 6
    return options


def validate(options: argparse.Namespace) -> None:
    """Checks the options.

    Raises:
        ValueError: they contradict each other or cannot be met.
    """

    def require(met: bool, fault: str) -> None:
        if not met:
            raise ValueError(fault)

    size, perfect = options.grid_size, options.maze_mode == "perfect"
    smallest = 5 if perfect else 2
    require(size >= smallest, f"--grid-size {size} is too small: a {options.maze_mode} maze needs {smallest}")
    for name in ("train", "test"):
        samples = vars(options)[f"{name}_samples"]
        require(samples >= 1, f"--{name}-samples {samples} is less than 1")
    for name in ("length-resamples", "grid-attempts", "start-attempts"):
        allowed = vars(options)[f"max_{name.replace('-', '_')}"]
        require(allowed >= 1, f"--max-{name} {allowed} is less than 1")
    require(options.seed >= 0, f"--seed {options.seed} is negative")
    require(0 <= options.wall_prob < 1, f"--wall-prob {options.wall_prob} is not in [0, 1)")
    shortest, longest = options.min_path_length, options.max_path_length
    if options.length_distribution == "fixed":
        shortest = longest = options.length_value
    elif options.length_distribution == "list":
        require(len(options.length_values) > 0, "--length-distribution list needs --length-values")
        shortest, longest = min(options.length_values), max(options.length_values)
        lengths, weights = len(options.length_values), options.length_weights
        require(len(weights) in (0, lengths), f"--length-weights has {len(weights)} weights for {lengths} lengths")
        positive = all(math.isfinite(w) and w >= 0 for w in weights) and (not weights or sum(weights) > 0)
        require(positive, "--length-weights must not be negative, and not all zero")
    elif options.length_distribution == "normal":
        require(math.isfinite(options.length_mean), f"--length-mean {options.length_mean} is not finite")
        finite = math.isfinite(options.length_std) and options.length_std >= 0
        require(finite, f"--length-std {options.length_std} is negative or not finite")
    require(shortest >= 1, f"a path length of {shortest} is less than 1")
    require(shortest <= longest, f"--min-path-length {shortest} is greater than --max-path-length {longest}")
    rooms = (size - 1) // 2
    possible = 2 * rooms * rooms - 2 if perfect else size * size - 1  # all open cells on one path
    needed = longest if options.strict_length else shortest
    require(needed <= possible, f"no {size}x{size} {options.maze_mode} maze has a path of {needed} steps")


def length_sampler(options: argparse.Namespace, rng: np.random.Generator, draw: Draw) -> Callable[[], int]:
    """A function that draws the path length of one maze, in steps."""
    low, high = options.min_path_length, options.max_path_length
    if options.length_distribution == "uniform":
        return lambda: low + draw(high - low + 1)
    if options.length_distribution == "normal":
        return lambda: min(max(round(rng.normal(options.length_mean, options.length_std)), low), high)
    if options.length_distribution == "list":
        weights = np.array(options.length_weights or [1.0] * len(options.length_values))
        return lambda: int(rng.choice(options.length_values, p=weights / weights.sum()))
    return lambda: options.length_value


def find_maze(
    options: argparse.Namespace, length: int, rng: np.random.Generator, draw: Draw
) -> tuple[Grid, list[int]] | None:
    """A grid and a shortest path of `length` steps in it, or None if the allowed attempts fail."""
    size, perfect = options.grid_size, options.maze_mode == "perfect"
    for _ in range(options.max_grid_attempts):
        grid = carve(size, draw) if perfect else scatter(size, options.wall_prob, rng)
        cells = [cell for cell, is_open in enumerate(grid.cells) if is_open]
        if len(cells) < max(2, length + 1):
            continue
        for _ in range(options.max_start_attempts):
            reached = search(grid, cells[draw(len(cells))], length)
            if len(reached.levels) <= length:
                continue
            goals = sorted(reached.levels[length])
            path = reached.path(goals[draw(len(goals))])
            if perfect or not options.require_unique or is_only_shortest(grid, reached, path):
                return grid, path
    return None


def mazes(options: argparse.Namespace) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields questions and answers without end, tokens [S] uint8 each, from one random stream.

    Raises:
        ValueError: the allowed attempts found no maze, or with `dedupe` no new one.
    """
    rng = np.random.default_rng(options.seed)
    draw = integers(rng)
    sample_length = length_sampler(options, rng, draw)
    known: set[bytes] = set()
    while True:
        for _ in range(options.max_length_resamples):
            length = sample_length()
            maze = find_maze(options, length, rng, draw)
            if maze is None and options.strict_length:
                raise ValueError(
                    f"no maze with a path of {length} steps in {options.max_grid_attempts} grids; give "
                    "--no-strict-length, ask for other lengths or allow more attempts"
                )
            if maze is None:
                continue
            grid, path = maze
            positions = [grid.position(cell) for cell in path]
            question_S = grid.board()
            question_S[positions[0]], question_S[positions[-1]] = START, GOAL
            if options.dedupe and question_S.tobytes() in known:
                continue
            break
        else:
            raise ValueError(
                f"no {'new ' if known else ''}maze in {options.max_length_resamples} tries; ask for other "
                "lengths or fewer samples, or allow more attempts"
            )
        if options.dedupe:
            known.add(question_S.tobytes())
        answer_S = question_S.copy()
        answer_S[positions[1:-1]] = PATH
        yield question_S, answer_S


def build(options: argparse.Namespace) -> None:
    """Writes the data set.

    Raises:
        ValueError: the options are wrong, or the mazes cannot be found.
    """
    validate(options)
    check_replaceable(options.output_dir)
    stream = mazes(options)
    splits: dict[str, Split] = {}
    for name, samples in (("train", options.train_samples), ("test", options.test_samples)):
        questions, answers = zip(*islice(counted(stream, samples, f"{name} mazes"), samples), strict=True)
        splits[name] = puzzle_split(np.stack(questions), np.stack(answers), VOCAB_SIZE)
    write_dataset(options.output_dir, splits, ["<blank>"])


@command(mistake=2)
@unwinding()
def main(words: Sequence[str]) -> None:
    """The command line. A signal leaves nothing half-written."""
    options = parse(words)
    build(options)
    print(f"{options.output_dir}: the data set is complete")


if __name__ == "__main__":
    main(sys.argv[1:])
