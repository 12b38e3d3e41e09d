"""Makes a small checkpoint of a run's last one: python -m reproduction.ship RUN_DIR checkpoints/NAME [--dtype bfloat16]

It holds the averaged weights (EMA) in the chosen dtype, the configuration and the puzzles' shape, and no optimizer or
latents. evaluate.py, solve.py and load_checkpoint= read it like any other. A run cannot resume from it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from config.command import command
from reproduction.records import portable
from runtime import checkpoint
from runtime.run_log import METRICS

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def _cast(tensors: dict[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    if dtype is None:
        return tensors
    cast = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    for name, tensor in cast.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} is not finite as {str(dtype).removeprefix('torch.')}: choose another --dtype")
    return cast


def ship(source: Path, file: Path, dtype: torch.dtype | None = None) -> int:
    """Writes a checkpoint's averaged weights, or its weights if it has no average; returns the size in bytes.

    Weights keep their dtypes if none is given.

    Raises:
        ValueError: `file` would stand in a run's folder, `source` is no checkpoint of ours, or a weight does not fit
            into `dtype`.
    """
    if (file.parent / METRICS).exists():
        raise ValueError(f"{file.parent} is a run's folder, and the run could not go on from {file} then: name another")
    saved = checkpoint.load(source, weights_only=True)
    averaged = saved.ema or {}
    beside = {name: tensor for name, tensor in saved.model.items() if name not in averaged}  # such as buffers
    small = saved._replace(
        config=portable(saved.config),
        model=_cast(beside, dtype),
        ema=_cast(averaged, dtype) or None,
    )
    checkpoint.save(file, small)
    return file.stat().st_size


@command()
def main(words: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m reproduction.ship", description="Make a small checkpoint of a run's."
    )
    parser.add_argument("source", type=Path, metavar="RUN_DIR", help="a run's folder (its last checkpoint), or a file")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="last.safetensors is written here")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="of the weights (%(default)s)")
    given = parser.parse_args(words)
    file = given.folder / "last.safetensors"
    print(f"{file}: {ship(given.source, file, DTYPES[given.dtype]):,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
