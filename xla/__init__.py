"""Inference in plain JAX: the same checkpoints, settings and results as evaluation/, on many devices."""

import config  # noqa: F401
from xla.engine import Evaluator

__all__ = ["Evaluator"]
