"""Training: the loop and what it needs (optimizers, EMA, checkpoints, processes, logs)."""
