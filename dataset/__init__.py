"""Puzzles on disk: what each task is, how its data sets are built, stored and read."""

import config  # noqa: F401
