"""Draws our first training steps over those of the released program: python results/loss_curves/draw.py

Prints how far the released program's curve lies from ours, beside how far our two seeds lie from each other.
"""

import json
from pathlib import Path

import numpy as np
from matplotlib import pyplot

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAIRS = {
    "eqr_sudoku": "eqr_sudoku_first_3150_steps",
    "eqr_maze_unique_tuned": "eqr_maze_unique_tuned_first_2150_steps",
}


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for axes, (name, released) in zip(panels, PAIRS.items(), strict=True):
    ours = np.array(json.loads((HERE / f"{name}.json").read_text())["rows"])
    curve = json.loads((ROOT / "tests" / "golden" / "curves" / f"{released}.json").read_text())
    theirs = np.array([row[:2] for row in curve["rows"]])
    assert np.array_equal(ours[:, 0], theirs[:, 0])
    axes.plot(ours[:, 0], ours[:, 1], color="#0072B2", label="this repository, seed 0")
    axes.plot(ours[:, 0], ours[:, 2], color="#56B4E9", linestyle="--", label="this repository, seed 1")
    axes.plot(theirs[:, 0], theirs[:, 1], ".", color="#D55E00", label="released program, seed 0")
    axes.set(title=name, xlabel="training step", ylabel="token loss per row")
    axes.grid(alpha=0.3)
    axes.legend()
    for first, last in ((0, ours[-1, 0]), (0, 500), (500, ours[-1, 0])):
        part = (ours[:, 0] > first) & (ours[:, 0] <= last)
        seeds = rms(ours[part, 1] - ours[part, 2])
        apart = rms(theirs[part, 1] - ours[part, 1:].mean(1))
        print(
            f"{name}, steps {int(first) + 1}-{int(last)}: our two seeds differ by {seeds:.4f} (rms), "
            f"the released curve from their mean by {apart:.4f}: {apart / seeds:.2f} times as much"
        )
figure.savefig(ROOT / "docs" / "loss_curves.png", dpi=120)
