"""Draws our first training steps over the released program's: python -m reproduction.draw_loss_curves

Prints how far the released program's curve lies from the mean of our seeds, in standard deviations of our seeds.
"""

from pathlib import Path

import numpy as np

from config.command import command
from config.json_file import read_json
from evaluation.drawing import pictures
from reproduction.records import ROOT

RELEASED = {
    "eqr_sudoku": "eqr_sudoku_first_3150_steps",
    "eqr_maze_unique_tuned": "eqr_maze_unique_tuned_first_2150_steps",
}
"""The file of the released program's curve by recipe."""
SPANS = ((0, 500), (500, None))
"""Steps are compared up to 500, and from there on."""


def read_curves(file: Path) -> np.ndarray:
    """The rows of a file of curves: step, then a loss for every curve. NaN where a run was shorter."""
    return np.array(read_json(file, dict)["rows"], float)


def rms(x: np.ndarray) -> float:
    """The root mean square."""
    return float(np.sqrt(np.mean(x**2)))


def comparison(recipe: str, seeds: np.ndarray, released: np.ndarray) -> list[str]:
    """A line for each span: the distance of the released curve from our mean, and the spread of our seeds."""
    step, lines = seeds[:, 0], []
    for first, last in SPANS:
        part = (step > first) & (step <= (last or step[-1]))
        losses = seeds[part, 1:][:, ~np.isnan(seeds[part, 1:]).any(0)]
        spread, count = rms(losses.std(1, ddof=1)), losses.shape[1]
        distance = rms(released[part, 1] - losses.mean(1))
        lines.append(
            f"{recipe}, steps {first + 1}-{int(last or step[-1])}: our {count} seeds have a standard deviation of "
            f"{spread:.4f}, the released curve lies {distance:.4f} from their mean (both rms): "
            f"{distance / spread:.2f} times as far, {(1 + 1 / count) ** 0.5:.2f} expected of one more seed"
        )
    return lines


@command()
def main() -> None:
    """Draws docs/loss_curves.png."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for axes, (recipe, name) in zip(figure.subplots(1, 2), RELEASED.items(), strict=True):
        seeds = read_curves(ROOT / "results" / "loss_curves" / f"{recipe}.json")
        released = read_curves(ROOT / "tests" / "golden" / "curves" / f"{name}.json")
        assert np.array_equal(seeds[:, 0], released[:, 0])
        colours = (pictures.BLUE, pictures.SKY, pictures.GREEN, pictures.PURPLE)
        for seed, (curve, colour) in enumerate(zip(seeds[:, 1:].T, colours, strict=False)):
            axes.plot(seeds[:, 0], curve, color=colour, linewidth=1, label=f"this repository, seed {seed}")
        axes.plot(*released[:, :2].T, ".", color=pictures.VERMILLION, label="released program, seed 0")
        axes.set(title=recipe, xlabel="training step", ylabel="token loss per row")
        axes.grid(alpha=0.3)
        axes.legend()
        print("\n".join(comparison(recipe, seeds, released)))
    figure.savefig(ROOT / "docs" / "loss_curves.png", dpi=120)


if __name__ == "__main__":
    main()
