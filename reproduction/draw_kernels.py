"""Draws the first 500 training steps with and without kernels: python -m reproduction.draw_kernels

Prints how far the two lie from each other for the same seed, beside how far two seeds lie from each other.
"""

import numpy as np

from config.command import command
from config.json_file import read_json
from evaluation.drawing import pictures
from reproduction.draw_loss_curves import read_curves, rms
from reproduction.records import ROOT

RECIPES = ("eqr_sudoku", "eqr_maze_unique_tuned")
LOOKS = ((pictures.BLUE, "-", 1), (pictures.GREEN, "-", 1), (pictures.VERMILLION, ":", 2), (pictures.ORANGE, ":", 2))
"""Colour, style and width of a file's curves: two seeds with kernels, then the same seeds without."""


def comparison(recipe: str, losses: np.ndarray) -> str:
    """One line on the distances of four curves, two with kernels and two without."""
    first, second, plain_first, plain_second = losses
    higher = np.mean(first + second - plain_first - plain_second) / 2
    return (
        f"{recipe}: kernels and plain code differ by {rms(first - plain_first):.4f} and "
        f"{rms(second - plain_second):.4f} (rms, same seed); two seeds by {rms(first - second):.4f} with kernels, "
        f"{rms(plain_first - plain_second):.4f} without; with kernels the loss is {higher:+.5f} higher on average"
    )


@command()
def main() -> None:
    """Draws docs/kernels_loss.png."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for axes, recipe in zip(figure.subplots(1, 2), RECIPES, strict=True):
        file = ROOT / "results" / "kernels" / f"{recipe}.json"
        step, *losses = read_curves(file).T
        labels = read_json(file, dict)["columns"][1:]
        for curve, label, (colour, style, width) in zip(losses, labels, LOOKS, strict=True):
            axes.plot(step, curve, label=label, color=colour, linestyle=style, linewidth=width)
        axes.set(title=recipe, xlabel="training step", ylabel="token loss per row")
        axes.grid(alpha=0.3)
        axes.legend()
        print(comparison(recipe, np.array(losses)))
    figure.savefig(ROOT / "docs" / "kernels_loss.png", dpi=120)


if __name__ == "__main__":
    main()
