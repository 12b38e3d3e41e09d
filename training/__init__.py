"""Training: the loop and what it needs (optimizers, EMA, checkpoints, processes, logs)."""

import config  # noqa: F401
