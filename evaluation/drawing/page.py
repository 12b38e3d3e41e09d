"""The page of a run or an evaluation: pictures, each with a sentence, in one HTML file that loads nothing else."""

import base64
import html
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dataset.boards import kind_of
from evaluation.drawing import curves, pictures
from evaluation.drawing.board_pictures import boards
from evaluation.drawing.sample import Sample, config_of, take_sample
from evaluation.results import read_results
from runtime.files import write_whole
from runtime.run_log import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Picture(NamedTuple):
    """A picture with its heading and text."""

    name: str  # of its file, without .png
    heading: str
    text: str
    figure: "Figure"


class Subject(NamedTuple):
    """What a page is about."""

    checkpoint: Path
    results: dict[str, Any] | None  # the evaluation's, for an evaluation's folder
    evaluations: dict[str, dict[str, Any]]  # by folder: the results of this evaluation, or of all below a run
    metrics: Path  # the run's metrics.jsonl, which may be missing


def find(directory: Path) -> Subject:
    """What a folder holds. Raises ValueError unless it is the folder of a run or of an evaluation."""
    if not directory.is_dir():
        raise ValueError(f"{directory} is not a folder: give the folder of a run or of an evaluation")
    if (directory / "results.json").is_file():
        results = read_results(directory)
        checkpoint = Path(results["checkpoint"])
        return Subject(checkpoint, results, {directory.name: results}, checkpoint.parent / METRICS)
    if (directory / "partial" / "about.json").is_file():
        raise ValueError(f"{directory} holds an evaluation that is not finished: finish it, or merge its parts")
    if not any((directory / name).is_file() for name in (METRICS, "last.safetensors")):
        raise ValueError(
            f"{directory} is neither a run's folder (with metrics.jsonl, last.safetensors) nor an evaluation's "
            "(with results.json)"
        )
    below = {file.parent.name: read_results(file.parent) for file in sorted(directory.glob("*/results.json"))}
    return Subject(directory / "last.safetensors", None, below, directory / METRICS)


_CELLS = (
    "Difficulty is the number of cells that the answer fills in: a Sudoku's blanks, the length of a maze's path. "
    "Data sets hold no ratings, but --ratings takes a CSV with them."
)


def _of_sample(sample: Sample, left_out: list[str]) -> Iterator[Picture]:
    """The pictures of a sample. Adds to `left_out` which pictures are missing, and why."""
    B = sample.breadth
    one, best = (curves.accuracy(sample, breadth)[-1] for breadth in (1, B))
    yield Picture(
        "accuracy_vs_depth",
        "Accuracy against depth, for each breadth",
        "Of several starts the one with the lowest residual counts. Depth 1 has no residual, so the first start "
        f"counts. At the end one start solves {one:.1%}, the best converged of {B} solves {best:.1%}.",
        pictures.accuracy_against_depth(sample),
    )
    if B > 1:
        text = "The same numbers as a map: more iterations to the right, more starts upwards."
        yield Picture("depth_breadth", "Depth and breadth", text, pictures.heat_map(sample))
    else:
        left_out.append("Depth and breadth, ways to the attractor: this model has no random starts.")
    yield Picture(
        "residual_vs_iteration",
        "Residual against iteration",
        "The residual is the L2 norm of the logits' change in an iteration, averaged over tokens. A trajectory counts "
        "as solved if its answer is right after the last iteration.",
        pictures.residual_against_iteration(sample),
    )
    yield Picture(
        "accuracy_vs_residual",
        "Accuracy against residual",
        "All answers after 2, 4, 8 and so on iterations, by their residual. This is why a low residual selects well. "
        f"Below is the number of answers. Bins with fewer than {curves.FEWEST} have no accuracy.",
        pictures.accuracy_against_residual(sample),
    )
    if sample.learned_halting:
        yield Picture(
            "halting_steps",
            "Halting steps by difficulty",
            ("Difficulty is the puzzles' rating." if sample.difficulty == "rating" else _CELLS)
            + " In the mean, a trajectory that never halts counts as the last iteration.",
            pictures.halting_steps(sample),
        )
    else:
        left_out.append("Halting steps: this model has not learned to halt.")
    if B > 1:
        yield Picture(
            "ways_to_the_attractor",
            "Ways to the attractor",
            "The latent that is read out, after every iteration, on the two principal components of a panel's points. "
            "One panel shows a puzzle that all starts solve late, the other one on which they disagree, if there are "
            "such puzzles. If iterations have noise, it is drawn anew for this picture.",
            pictures.paths_to_attractors(sample.paths),
        )
    kind = kind_of(sample.inputs_NS, sample.labels_NS, sample.vocab_size)
    if kind is None:
        left_out.append("Boards: these puzzles are neither Sudokus nor mazes.")
    else:
        text = (
            "Puzzles that are solved last, and puzzles that are not solved. Wrong cells differ from the data's answer."
        )
        yield Picture("boards", "Boards that settle", text, boards(sample, kind))


def _all(
    subject: Subject, puzzles: int, ratings: Path | None, facts: dict[str, str], left_out: list[str]
) -> Iterator[Picture]:
    """All pictures of a page. Adds to the page's facts, and to `left_out` what is missing and why."""
    if subject.evaluations:
        text = "From results.json, over all puzzles evaluated."
        yield Picture("evaluation", "What was evaluated", text, pictures.evaluations(subject.evaluations))
    else:
        left_out.append("What was evaluated: no evaluation lies in this run's folder.")
    try:
        sample = take_sample(config_of(subject.checkpoint, subject.results), puzzles, ratings)
    except (ValueError, OSError) as error:
        if ratings is not None:  # ratings without a sample are a mistake
            raise
        left_out.append(f"Everything about trajectories: {error}.")
    else:
        facts |= sample.facts
        facts["run again"] = f"{sample.puzzles} puzzles x {sample.breadth} starts x {sample.depth} iterations"
        if subject.results and str(subject.results["step"]) != sample.facts["step"]:
            left_out.append(f"The checkpoint is from another step than the evaluation ({subject.results['step']}).")
        yield from _of_sample(sample, left_out)
    if subject.metrics.is_file():
        text = "Pale: every line of metrics.jsonl. Strong: means of neighbouring lines, if there are many."
        yield Picture("training", "Training", text, pictures.training_curves(curves.training(subject.metrics)))
    else:
        left_out.append("Training: there is no metrics.jsonl beside the checkpoint.")


_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #111;
  background: #fff }}
figure {{ margin: 0 0 2.5rem }} img {{ max-width: 100%; height: auto }} h2 {{ margin: 2rem 0 .3rem }}
td {{ padding: 0 1.5rem 0 0; vertical-align: top; overflow-wrap: anywhere }} td:first-child {{ color: #555 }}
</style></head><body>
<h1>{title}</h1>
"""


def _html(title: str, facts: dict[str, str], parts: Iterable[tuple[Picture, bytes]], left_out: list[str]) -> str:
    rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>\n" for k, v in facts.items())
    body = [_HEAD.format(title=html.escape(title)), f"<table>\n{rows}</table>\n"]
    for picture, png in parts:
        source = base64.b64encode(png).decode()
        alt = html.escape(f"{picture.heading}. {picture.text}", quote=True)
        body.append(
            f"<h2>{html.escape(picture.heading)}</h2>\n<figure><p>{html.escape(picture.text)}</p>\n"
            f'<img alt="{alt}" src="data:image/png;base64,{source}"></figure>\n'
        )
    if left_out:
        notes = "".join(f"<li>{html.escape(note)}</li>\n" for note in left_out)
        body.append(f"<h2>What is not here</h2>\n<ul>\n{notes}</ul>\n")
    return "".join(body) + "</body></html>\n"


def write_page(directory: Path, output: Path, puzzles: int, ratings: Path | None = None) -> Path:
    """Writes index.html and a PNG for each picture. Returns the path of index.html.

    Args:
        directory: the folder of a run or of an evaluation.
        output: the folder to write into.
        puzzles: how many puzzles to run again for the pictures.
        ratings: a CSV with a row for each puzzle of the split; its column `rating` is the puzzles' difficulty.

    Raises:
        ValueError: `directory` is no such folder, `puzzles` is below 1, or `ratings` do not fit.
    """
    if puzzles < 1:
        raise ValueError(f"--puzzles should be at least 1, not {puzzles}")
    subject = find(directory)
    facts: dict[str, str] = {}
    left_out: list[str] = []
    parts = []
    with pictures.style():
        for picture in _all(subject, puzzles, ratings, facts, left_out):
            file = io.BytesIO()
            picture.figure.savefig(file, format="png")
            parts.append((picture, file.getvalue()))
    output.mkdir(parents=True, exist_ok=True)
    for picture, png in parts:
        write_whole(output / f"{picture.name}.png", png)
    page = output / "index.html"
    write_whole(page, _html("/".join(directory.resolve().parts[-2:]), facts, parts, left_out))
    return page
