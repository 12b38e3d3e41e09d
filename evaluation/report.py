"""Draws the results of a run or of an evaluation.

python -m evaluation.report RUN_OR_EVAL_DIR           # a page of pictures (docs/pictures.md)
python -m evaluation.report EVAL_DIR EVAL_DIR ...     # accuracy_vs_depth.png, which compares evaluations
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.drawing import pictures
from evaluation.drawing.page import write_page
from evaluation.results import read_results
from runtime.command import computing
from runtime.files import whole
from runtime.hub import newest_run


def _draw(directories: Sequence[Path], output: Path | None, puzzles: int, ratings: Path | None) -> Path:
    """Draws the page of one folder, or the picture that compares several evaluations. Returns its file."""
    if ratings is not None and not ratings.is_file():
        raise ValueError(f"--ratings {ratings} is not a file: give a CSV with a column `rating`")
    if ratings is not None and len(directories) > 1:
        raise ValueError("--ratings goes with one folder: a picture of several shows no ratings")
    if len(directories) == 1:
        directory = newest_run(directories[0])
        return write_page(directory, output or directory / "report", puzzles, ratings)

    file = output or Path()
    if file.is_dir():
        file /= "accuracy_vs_depth.png"
    file = file if file.suffix else file.with_suffix(".png")  # as matplotlib would
    above = os.path.commonpath([directory.resolve().parent for directory in directories])
    results = {os.path.relpath(directory.resolve(), above): read_results(directory) for directory in directories}
    with pictures.style(), whole(file) as unfinished:
        pictures.evaluations(results).savefig(unfinished, format=file.suffix[1:])
    return file


@computing("give fewer --puzzles")
def main(words: Sequence[str]) -> None:
    """The command line: the page of a run or of an evaluation, or a picture that compares evaluations."""
    parser = argparse.ArgumentParser(
        description="Draw the results of a run or of an evaluation: for one folder a page in DIR/report, for several "
        "evaluations accuracy_vs_depth.png, a picture that compares them."
    )
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="a run's or an evaluation's folder")
    parser.add_argument("--puzzles", type=int, default=64, help="puzzles to run again for the page (64)")
    parser.add_argument(
        "--ratings", type=Path, metavar="CSV", help="a CSV; its column `rating` is the puzzles' difficulty"
    )
    parser.add_argument("--output", type=Path, help="a folder for the page or the picture, or the picture's file")
    arguments = parser.parse_args(words)
    print(f"wrote {_draw(arguments.directories, arguments.output, arguments.puzzles, arguments.ratings)}")


if __name__ == "__main__":
    main(sys.argv[1:])
