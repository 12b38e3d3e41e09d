"""Devices: a mesh over all of them, with parameters on each and trajectories spread evenly.

Rows never meet. So a program runs on each device's own rows, and devices exchange nothing.

Shapes: R rows, each a trajectory.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

ROWS = P("rows")
AT_DEPTHS = P(None, "rows")
"""The sharding of arrays [depths, R, ...]."""


def _take(tree: Any, index: Array) -> Any:
    """Some of the rows, an equal part on each device."""
    return jax.tree.map(lambda array: array[index], tree)


class Sharded:
    """Puts arrays on devices and compiles programs for them."""

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        self._mesh = Mesh(np.array(devices), ("rows",))
        self.take = jax.jit(_take, out_shardings=NamedSharding(self._mesh, ROWS))

    def replicate(self, tree: Any) -> Any:
        """A tree of arrays with a copy on every device."""
        return jax.device_put(tree, NamedSharding(self._mesh, P()))

    def spread(self, tree: Any) -> Any:
        """A tree of arrays [R, ...], an equal part of the rows on each device."""
        return jax.device_put(tree, NamedSharding(self._mesh, ROWS))

    def padded(self, index: np.ndarray) -> np.ndarray:
        """Numbers of rows, with as many more as make them divisible by the devices."""
        return np.resize(index, -(-len(index) // self._mesh.size) * self._mesh.size)

    def compiled(self, program: Callable[..., Any], *, outputs: Any = ROWS, donate: tuple[int, ...] = ()) -> Any:
        """A jit of program(parameters, *trees of arrays [R, ...]) on all devices. It may write over `donate`."""

        def spread(parameters: Any, *rows: Any) -> Any:
            inputs = (P(), *[ROWS] * len(rows))
            on_each = jax.shard_map(program, mesh=self._mesh, in_specs=inputs, out_specs=outputs, check_vma=False)
            return on_each(parameters, *rows)

        return jax.jit(spread, donate_argnums=donate)
