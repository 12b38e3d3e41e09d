"""Evaluation: trajectories in depth and breadth, selection among them, metrics and reports."""

import config  # noqa: F401
