"""Processes, files and checkpoints: what training and evaluation stand on. Knows no algorithm."""

import config  # noqa: F401
