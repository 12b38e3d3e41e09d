"""The 8 symmetries of a square, in the order in which Maze-Hard stores them."""

import numpy as np

SYMMETRIES = 8
"""0 identity; 1, 2, 3 quarter turns to the left; 4 flip left-right; 5 flip up-down; 6 transpose; 7 anti-transpose."""

INVERSES = (0, 3, 2, 1, 4, 5, 6, 7)
SWAPPING = (1, 3, 6, 7)
"""The symmetries that turn rows into columns."""


def dihedral(boards: np.ndarray, symmetry: int) -> np.ndarray:
    """Applies one symmetry to the last two axes, rows and columns."""
    if symmetry < 4:
        return np.rot90(boards, symmetry, axes=(-2, -1))
    if symmetry < 6:
        return np.flip(boards, axis=-1 if symmetry == 4 else -2)
    turned = boards if symmetry == 6 else np.rot90(boards, 2, axes=(-2, -1))
    return turned.swapaxes(-2, -1)
