"""Inference in plain JAX: the same checkpoints, settings and results as evaluation/, on many devices."""

from importlib.util import find_spec

import config  # noqa: F401

if find_spec("jax") is None:
    raise ModuleNotFoundError("engine=xla needs jax, which is not installed: pip install -e '.[xla]' (docs/xla.md)")

from xla.engine import Evaluator  # noqa: E402

__all__ = ["Evaluator"]
