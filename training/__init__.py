"""Training: the loop, one step of it, optimizers, the average of the weights, the log."""

import config  # noqa: F401
