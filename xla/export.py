"""Writes one outer iteration as a StableHLO artifact: python -m xla.export CHECKPOINT OUT [key=value ...]

OUT holds `iteration.stablehlo` for CPUs, CUDA and TPUs, `weights.safetensors`, and `example.py`, which runs both with
jax alone. The program takes (weights by name, latents, inputs [B, S], puzzle_ids [B], keys [B, 2]) and returns
(latents, logits [B, S, V], q_halt [B]). `keys` seed the noise: give others in every iteration.

Shapes: B rows, S tokens of a puzzle, V vocabulary.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import torch
from safetensors.numpy import save

from config.command import command
from config.fields import Role, keys
from config.load import load_eval
from config.options import count
from config.schema import EvalConfig
from dataset.puzzles import Puzzles
from runtime.files import whole, write_whole
from runtime.load import build_for_evaluation, load_model
from xla.layers import Static, require_support
from xla.randomness import START, fold, normal, trajectory_keys
from xla.reasoner import embed, iterate, nested, parameters, start

PLATFORMS = ("cpu", "cuda", "tpu")
EXAMPLE = '''"""Runs iteration.stablehlo, an outer iteration of an Equilibrium Reasoner, with jax alone."""

import jax
import numpy as np
from jax import export
from safetensors.numpy import load_file

program = export.deserialize(bytearray(open("iteration.stablehlo", "rb").read()))
weights = load_file("weights.safetensors")
latents = [weights.pop(name) for name in sorted(weights) if name.startswith("latents.")]
rows, tokens = program.in_avals[-3].shape
puzzles = np.ones((rows, tokens), np.int32)  # the puzzles' tokens; 0 pads
for iteration in range(16):
    keys = np.stack((np.full(rows, iteration), np.arange(rows)), axis=1).astype(np.uint32)
    latents, logits, q_halt = program.call(weights, latents, puzzles, np.zeros(rows, np.int32), keys)
    print(iteration + 1, "answer of row 0:", logits[0].argmax(-1), "q_halt:", q_halt[0])
'''


def flat(tree: Any) -> dict[str, Any]:
    """The arrays of a tree of dicts by dotted name: the reverse of `nested`."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {".".join(str(key.key) for key in path): leaf for path, leaf in leaves}


def outer_iteration(
    static: Static, weights: dict[str, Any], latents: Any, inputs_BS: Any, ids_B: Any, keys_B2: Any
) -> Any:
    """One outer iteration, from arrays alone."""
    keys_B, p = jax.random.wrap_key_data(keys_B2, impl="threefry2x32"), nested(weights)
    x_BLD = embed(p, static, inputs_BS, ids_B)
    latents, readout = iterate(
        p, static, tuple(latents), x_BLD, lambda n: normal(fold(keys_B, n), x_BLD.shape[1:], x_BLD.dtype)
    )
    return list(latents), readout.logits, readout.q_halt


def program(static: Static, p: Any, rows: int) -> tuple[jax.export.Exported, dict[str, Any]]:
    """An outer iteration of so many rows for all `PLATFORMS`, and its weights with the latents of fresh rows."""
    keys_B = trajectory_keys(0, jnp.arange(rows), jnp.zeros(rows, jnp.int32))
    latents = start(p["core"], static, fold(keys_B, START))
    like: Any = jax.ShapeDtypeStruct
    inputs_BS, ids_B = like((rows, static.seq_len), jnp.int32), like((rows,), jnp.int32)
    exported = jax.export.export(jax.jit(partial(outer_iteration, static)), platforms=PLATFORMS)(
        flat(p), list(latents), inputs_BS, ids_B, like((rows, 2), jnp.uint32)
    )
    return exported, flat(p) | {f"latents.{i}": z for i, z in enumerate(latents)}


def export(checkpoint: str, out: Path, rows: int, words: Sequence[str] = ()) -> None:
    """Writes the three files into the folder `out`. `words` are settings of the model, as forward_dtype=float32.

    Raises:
        ValueError: a setting has no effect here; the checkpoint cannot be read; it does not say what its puzzles are,
            and no data set does; or XLA lacks it or its precision.
    """
    named = ["checkpoint=none"]
    config, plain, cpu = load_eval([*named, *words]), dict(load_eval(named)), torch.device("cpu")
    effective = {"ema", "dataset_data_path", "split", *keys(EvalConfig, Role.MODEL)}
    if idle := [name for name, value in config if name not in effective and value != plain[name]]:
        raise ValueError(f"{idle[0]} has no effect in an exported iteration")
    loaded = load_model(checkpoint, config.ema)
    data = config.dataset_data_path or loaded.data_path
    shape = loaded.puzzle_shape or Puzzles(data, config.split, cpu).shape
    arch, model, *_ = build_for_evaluation(loaded, config, shape, cpu)
    require_support(arch)
    static = Static(arch, shape.seq_len, "any")
    exported, arrays = program(static, parameters(model.state_dict(), static), rows)
    out.mkdir(parents=True, exist_ok=True)
    with whole(out / "iteration.stablehlo") as file:
        file.write_bytes(exported.serialize())
    with whole(out / "weights.safetensors") as file:
        file.write_bytes(save({name: np.array(array) for name, array in arrays.items()}))
    write_whole(out / "example.py", EXAMPLE)


@command()
def main(words: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write one outer iteration as a StableHLO artifact.")
    parser.add_argument("checkpoint")
    parser.add_argument("out", type=Path, help="a folder")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="of the model, as forward_dtype=float32")
    parser.add_argument("--rows", type=count, default=8, help="puzzles at a time (%(default)s)")
    given = parser.parse_intermixed_args(words)
    export(given.checkpoint, given.out, given.rows, given.settings)
    there = shlex.quote(str(given.out))
    print(f"{given.out}: iteration.stablehlo, weights.safetensors; try it: cd {there} && python example.py")


if __name__ == "__main__":
    main(sys.argv[1:])
