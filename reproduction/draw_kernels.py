"""Draws the first 500 training steps with and without kernels: python -m reproduction.draw_kernels

Prints how far the two lie from each other for the same seed, beside how far two seeds lie from each other.
"""

import json
from pathlib import Path

import numpy as np
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("eqr_sudoku", "eqr_maze_unique_tuned")
STYLES = (("#0072B2", "-"), ("#009E73", "-"), ("#D55E00", ":"), ("#E69F00", ":"))


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for axes, name in zip(panels, NAMES, strict=True):
    found = json.loads((ROOT / "results" / "kernels" / f"{name}.json").read_text())
    step, *curves = np.array(found["rows"]).T
    for curve, label, (color, line) in zip(curves, found["columns"][1:], STYLES, strict=True):
        axes.plot(step, curve, color=color, linestyle=line, linewidth=2 if line == ":" else 1, label=label)
    axes.set(title=name, xlabel="training step", ylabel="token loss per row")
    axes.grid(alpha=0.3)
    axes.legend()
    first, second, plain_first, plain_second = curves
    higher = np.mean(first + second - plain_first - plain_second) / 2
    print(
        f"{name}: kernels and plain code differ by {rms(first - plain_first):.4f} and "
        f"{rms(second - plain_second):.4f} (rms, same seed); two seeds by {rms(first - second):.4f} with kernels, "
        f"{rms(plain_first - plain_second):.4f} without; with kernels the loss is {higher:+.5f} higher on average"
    )
figure.savefig(ROOT / "docs" / "kernels_loss.png", dpi=120)
