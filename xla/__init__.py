"""Inference in plain JAX: the same checkpoints, settings and results as evaluation/, on many devices."""

import config  # noqa: F401
