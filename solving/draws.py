"""Random numbers as PyTorch draws them on a CPU, without PyTorch: starts and noise of the same trajectories.

Both use the Mersenne Twister. The numbers are equal up to the rounding of logarithm and cosine in float32.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

_CUT, _TAIL, _STD = 2.0, math.erf(math.sqrt(2.0)), 0.8796256610342398  # of a normal distribution cut at +-2
# M. Giles, "Approximating the erfinv function" (2010): the inverse error function for |x| < 0.9966
_ERFINV = (
    *(2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087),
    *(-0.00125372503, -0.00417768164, 0.246640727, 1.50140941),
)
_Fill = Callable[[np.ndarray, np.ndarray], None]
Each = Callable[[_Fill, Iterable[np.ndarray], Iterable[np.ndarray]], Iterable[None]]


class Draws:
    """What PyTorch's generator of the CPU draws in float32 after `torch.manual_seed(seed)`, in the same order."""

    def __init__(self, seed: int) -> None:
        self._twister = np.random.RandomState(seed)

    def _bits(self, count: int) -> np.ndarray:
        return self._twister.randint(0, 2**32, count, np.uint32)

    def uniform(self, count: int) -> np.ndarray:
        """`torch.rand(count)`: uniform on [0, 1)."""
        return _uniform(self._bits(count))

    def normals(self, count: int, *shape: int, each: Each = map) -> np.ndarray:
        """[R, count, ...]: `count` times `torch.randn(R, ...)`, each of at least 16 numbers, one after the other.

        Box and Muller's method, 8 pairs at a time. `each` is map or a pool's, which computes while the Mersenne Twister
        draws on.
        """
        size = math.prod(shape)
        rest = 16 if size % 16 else 0  # the last 16 numbers are drawn anew
        normals = np.empty((shape[0], count, *shape[1:]), np.float32)

        def fill(normals_R: np.ndarray, bits: np.ndarray) -> None:
            uniform = _uniform(bits)
            normal = _box_muller(uniform[: size - size % 16])
            if rest:
                normal = np.concatenate((normal[: size - 16], _box_muller(uniform[size:])))
            normals_R[:] = normal.reshape(shape)

        list(each(fill, np.moveaxis(normals, 1, 0), (self._bits(size + rest) for _ in range(count))))
        return normals

    def truncated_normal(self, *shape: int, std: float) -> np.ndarray:
        """As `models.layers.truncated_normal`: cut at two standard deviations, of standard deviation `std`."""
        if std == 0:
            return np.zeros(shape, np.float32)
        x = (2.0 * self.uniform(math.prod(shape)) - 1.0) * np.float32(_TAIL)
        normal = _erfinv(x) * np.float32(math.sqrt(2.0))
        return (normal.clip(-_CUT, _CUT) * np.float32(std / _STD)).reshape(shape)


def _uniform(bits: np.ndarray) -> np.ndarray:
    return (bits & np.uint32(2**24 - 1)).astype(np.float32) * np.float32(2**-24)


def _box_muller(uniform: np.ndarray) -> np.ndarray:
    u_N28 = uniform.reshape(-1, 2, 8)
    radius_N8 = np.sqrt(-2 * np.log(1 - u_N28[:, 0]))
    angle_N8 = np.float32(2 * math.pi) * u_N28[:, 1]
    return np.stack((radius_N8 * np.cos(angle_N8), radius_N8 * np.sin(angle_N8)), axis=1).reshape(-1)


def _erfinv(x: np.ndarray) -> np.ndarray:
    w = -np.log((1 - x) * (1 + x)) - np.float32(2.5)
    value = np.zeros_like(w)
    for coefficient in _ERFINV:
        value = value * w + np.float32(coefficient)
    return value * x
