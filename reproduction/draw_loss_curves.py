"""Draws our first training steps over those of the released program: python -m reproduction.draw_loss_curves

Prints how far the released program's curve lies from the mean of our seeds, in standard deviations of our seeds.
"""

import json
from pathlib import Path

import numpy as np
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parent.parent
PAIRS = {
    "eqr_sudoku": "eqr_sudoku_first_3150_steps",
    "eqr_maze_unique_tuned": "eqr_maze_unique_tuned_first_2150_steps",
}
COLORS = ("#0072B2", "#56B4E9", "#009E73", "#CC79A7")


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for axes, (name, released) in zip(panels, PAIRS.items(), strict=True):
    ours = np.array(
        json.loads((ROOT / "results" / "loss_curves" / f"{name}.json").read_text())["rows"], dtype=float
    )  # NaN where a run was shorter
    curve = json.loads((ROOT / "tests" / "golden" / "curves" / f"{released}.json").read_text())
    theirs = np.array([row[:2] for row in curve["rows"]])
    assert np.array_equal(ours[:, 0], theirs[:, 0])
    for seed, color in zip(range(ours.shape[1] - 1), COLORS, strict=False):
        axes.plot(ours[:, 0], ours[:, 1 + seed], color=color, linewidth=1, label=f"this repository, seed {seed}")
    axes.plot(theirs[:, 0], theirs[:, 1], ".", color="#D55E00", label="released program, seed 0")
    axes.set(title=name, xlabel="training step", ylabel="token loss per row")
    axes.grid(alpha=0.3)
    axes.legend()
    for first, last in ((0, 500), (500, ours[-1, 0])):
        part = (ours[:, 0] > first) & (ours[:, 0] <= last)
        seeds = ours[part, 1:][:, ~np.isnan(ours[part, 1:]).any(0)]
        spread = rms(seeds.std(1, ddof=1))
        apart = rms(theirs[part, 1] - seeds.mean(1))
        expected = (1 + 1 / seeds.shape[1]) ** 0.5
        print(
            f"{name}, steps {int(first) + 1}-{int(last)}: our {seeds.shape[1]} seeds have a standard deviation of "
            f"{spread:.4f}, the released curve lies {apart:.4f} from their mean (both rms): "
            f"{apart / spread:.2f} times as far, {expected:.2f} expected of one more seed"
        )
figure.savefig(ROOT / "docs" / "loss_curves.png", dpi=120)
