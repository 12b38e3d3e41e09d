"""Processes, files and checkpoints, for training and evaluation. It knows no algorithm."""

import config  # noqa: F401
