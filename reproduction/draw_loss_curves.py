"""Draws our first training steps over the released program's, and with and without kernels.

python -m reproduction.draw_loss_curves

Prints how far the released program's curve lies from the mean of our seeds, in standard deviations of our seeds. Then
how far training with kernels lies from plain code for the same seed, beside how far two seeds lie from each other.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from config.command import command
from config.json_file import read_json
from evaluation.drawing import pictures
from reproduction.records import ROOT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RELEASED = {
    "eqr_sudoku": "eqr_sudoku_first_3150_steps",
    "eqr_maze_unique_tuned": "eqr_maze_unique_tuned_first_2150_steps",
}
"""The file of the released program's curve by recipe."""
SPANS = ((0, 500), (500, None))
"""Steps are compared up to 500, and from there on."""
LOOKS = ((pictures.BLUE, "-", 1), (pictures.GREEN, "-", 1), (pictures.VERMILLION, ":", 2), (pictures.ORANGE, ":", 2))
"""Colour, style and width of curves: two seeds with kernels, then the same seeds without."""


def read_curves(file: Path) -> np.ndarray:
    """The rows of a file of curves: step, then a loss for every curve. NaN where a run was shorter."""
    return np.array(read_json(file, dict)["rows"], float)


def rms(x: np.ndarray) -> float:
    """The root mean square."""
    return float(np.sqrt(np.mean(x**2)))


def beside_released(axes: "Axes", recipe: str) -> list[str]:
    """Draws our seeds and the released program. A line for each span: its distance from our mean, and our spread."""
    seeds = read_curves(ROOT / "results" / "loss_curves" / f"{recipe}.json")
    released = read_curves(ROOT / "tests" / "golden" / "curves" / f"{RELEASED[recipe]}.json")
    assert np.array_equal(seeds[:, 0], released[:, 0])
    colours = (pictures.BLUE, pictures.SKY, pictures.GREEN, pictures.PURPLE)
    for seed, (curve, colour) in enumerate(zip(seeds[:, 1:].T, colours, strict=False)):
        axes.plot(seeds[:, 0], curve, color=colour, linewidth=1, label=f"this repository, seed {seed}")
    axes.plot(*released[:, :2].T, ".", color=pictures.VERMILLION, label="released program, seed 0")
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


def beside_plain_code(axes: "Axes", recipe: str) -> list[str]:
    """Draws the first 500 steps of two seeds with kernels and without. One line on their distances."""
    file = ROOT / "results" / "kernels" / f"{recipe}.json"
    step, *losses = read_curves(file).T
    for curve, label, (colour, style, width) in zip(losses, read_json(file, dict)["columns"][1:], LOOKS, strict=True):
        axes.plot(step, curve, label=label, color=colour, linestyle=style, linewidth=width)
    first, second, plain_first, plain_second = losses
    higher = np.mean(first + second - plain_first - plain_second) / 2
    return [
        f"{recipe}: kernels and plain code differ by {rms(first - plain_first):.4f} and "
        f"{rms(second - plain_second):.4f} (rms, same seed); two seeds by {rms(first - second):.4f} with kernels, "
        f"{rms(plain_first - plain_second):.4f} without; with kernels the loss is {higher:+.5f} higher on average"
    ]


FIGURES: dict[str, Callable[["Axes", str], list[str]]] = {
    "loss_curves": beside_released,
    "kernels_loss": beside_plain_code,
}
"""What draws docs/NAME.png, a panel for each recipe."""


@command()
def main() -> None:
    """Draws both figures, and prints their lines."""
    for name, draw in FIGURES.items():
        figure = pictures.new_figure(11, 4.2)
        for axes, recipe in zip(figure.subplots(1, 2), RELEASED, strict=True):
            print("\n".join(draw(axes, recipe)))
            axes.set(title=recipe, xlabel="training step", ylabel="token loss per row")
            axes.grid(alpha=0.3)
            axes.legend()
        figure.savefig(ROOT / "docs" / f"{name}.png", dpi=120)


if __name__ == "__main__":
    main()
