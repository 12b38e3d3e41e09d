"""Measures engine=xla beside engine=torch on the same device. python -m benchmarks.xla [CONFIG ...] [--output DIR]

- A line is an outer iteration of so many rows of random puzzles, with random weights, noise, q_halt and the residual.
- XLA makes some iterations in one call, as an evaluation does; on several devices each has an equal part of the rows.
  PyTorch works on one device, with kernels where it has them.
- Times are medians of five blocks after one to warm up. "first" is that first block, with all compiling.
- "hours" are those of the paper's evaluation of Sudoku-Extreme, 422,786 puzzles x 128 starts x 64 iterations.
- The program begins no further case once `--seconds` have passed.
"""

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from benchmarks.model_table import shape_of
from benchmarks.speed import random_split
from benchmarks.timing import Times, block_medians
from config.architectures import Arch
from config.load import load_pretrain
from config.options import count
from config.schema import PretrainConfig
from dataset.layout import write_dataset
from dataset.puzzles import Puzzles
from evaluation.settings import Settings
from evaluation.trajectory import evaluating, trajectory
from models.backend import PLAIN, choose
from models.build import build, place
from runtime.command import computing
from runtime.files import write_whole
from runtime.load import Evaluable
from runtime.versions import versions
from xla import Evaluator
from xla.layers import Static
from xla.trajectory import State, begin, several

Case = dict[str, Any]
GPU = {"eqr_sudoku": (768, 4096), "eqr_maze_unique": (768, 4096)}
CPU = {"quickstart": (96,), "eqr_maze_unique_d44_tuned": (4,)}
"""What to measure if the command names nothing: configs, and rows."""
PAPER = 422_786 * 128 * 64
"""Outer iterations of the paper's evaluation of Sudoku-Extreme."""
ITERATIONS = 4
"""Iterations in a call and in a block."""
NO_NOISE, PLAIN_ATTENTION = "xla, no noise", "xla, plain attention"
ENGINES = ("torch", "xla", NO_NOISE, PLAIN_ATTENTION)
HEAD = ("config", "engine", "devices", "rows", "iteration", "rows/s", "first", "hours")


def measure_torch(config: PretrainConfig, data: str, rows: int) -> Times:
    """An iteration in PyTorch, as fast as the device allows."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    puzzles, backend = Puzzles(data, "train", device), choose(config, config.arch, device)
    model = build(config.arch, puzzles.shape, backend)
    place(model, backend, device)
    iterations = trajectory(model, puzzles.rows(np.arange(rows) % len(puzzles)), 10**9)
    with evaluating(model):
        return block_medians(lambda: next(iterations), ITERATIONS)


def measure_xla(arch: Arch, data: str, rows: int, devices: Sequence[jax.Device], plain: bool = False) -> Times:
    """An iteration in XLA on these devices; `plain`: without cuDNN's attention."""
    puzzles, settings = Puzzles(data, "train", torch.device("cpu")), Settings([16], rows=rows)
    model = build(arch, puzzles.shape)
    evaluator = Evaluator(Evaluable(arch, model, model.core.start, PLAIN), puzzles, settings, devices)
    platform = "any" if plain else evaluator.devices.kind
    static = Static(arch, puzzles.shape.seq_len, platform, settings)
    sharded, parameters = evaluator.sharded, evaluator.parameters

    def iterate(p: Any, state: State) -> State:
        return several(p, static, state, ITERATIONS)

    numbers = np.arange(rows, dtype=np.int32)
    puzzle = evaluator.puzzles(numbers % len(puzzles))
    given = sharded.spread((puzzle, numbers, numbers))
    state = sharded.compiled(lambda p, *rows: begin(p, static, *rows))(parameters, *given)
    advanced = sharded.compiled(iterate, (1,))

    def step() -> None:
        nonlocal state
        state = jax.block_until_ready(advanced(parameters, state))

    ms, first_s = block_medians(step, 1)
    return Times(ms / ITERATIONS, first_s)


def cases(names: Sequence[str], rows: Sequence[int], counts: Sequence[int], engines: Sequence[str]) -> Iterator[Case]:
    """Measures one case after the other. A case that fails says why."""
    on_gpu = jax.local_devices()[0].platform != "cpu"
    default = GPU if on_gpu else CPU
    for name in names or default:
        words = [f"train={name}", *([] if on_gpu else ["arch.forward_dtype=float32"])]
        shape = shape_of(load_pretrain(words))
        assert shape is not None
        with tempfile.TemporaryDirectory() as folder:
            data = str(Path(folder) / "data")
            write_dataset(data, {"train": random_split(shape, 4096)}, ["<blank>"])
            config = load_pretrain([*words, f"dataset.data_path={data}"])
            for many in rows or default[name]:
                for engine in engines:
                    for count in counts if engine != "torch" else [1]:
                        case: Case = {"config": name, "engine": engine, "devices": count, "rows": many}
                        devices = jax.local_devices()[:count]
                        arch = config.arch.model_copy(update={"noise_scale": 0.0} if engine == NO_NOISE else {})
                        try:
                            if engine == "torch":
                                ms, first = measure_torch(config, data, many)
                            else:
                                ms, first = measure_xla(arch, data, many, devices, engine == PLAIN_ATTENTION)
                            case |= {"iteration ms": ms, "first s": first}
                        except (RuntimeError, NotImplementedError, ValueError) as error:
                            case["failed"] = str(error)[:1000]
                        gc.collect()
                        torch.cuda.empty_cache()
                        yield case


def line(case: Case) -> str:
    """A row of the table as Markdown."""
    cells = [f"`{case['config']}`", case["engine"], str(case["devices"]), str(case["rows"])]
    if "failed" in case:
        return f"| {' | '.join([*cells, case['failed'][:200], '', '', ''])} |"
    ms = case["iteration ms"]
    hours = f"{PAPER / case['rows'] * ms / 3.6e6:.1f}" if "sudoku" in case["config"] else ""
    cells += [f"{ms:.1f} ms", f"{1000 * case['rows'] / ms:,.0f}", f"{case['first s']:.1f} s", hours]
    return f"| {' | '.join(cells)} |"


@computing("give fewer --rows")
def main(words: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Speed of engine=xla beside engine=torch.")
    parser.add_argument("configs", nargs="*", help="by default eqr_sudoku and eqr_maze_unique, on a CPU small ones")
    parser.add_argument("--rows", nargs="+", type=count, default=(), help="by default 768 and 4096; on a CPU fewer")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES[:2])
    parser.add_argument("--devices", nargs="+", type=count, help="for XLA; by default one, and all")
    parser.add_argument("--seconds", type=float, default=600, help="begin no further case after (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("."), help="the folder of xla.json (%(default)s)")
    given, began = parser.parse_args(words), time.perf_counter()
    devices = jax.local_devices()
    if given.devices and max(given.devices) > len(devices):
        raise ValueError(
            f"--devices should be at most {len(devices)}, what JAX has here, but one is {max(given.devices)}"
        )
    facts: dict[str, Any] = {"device": f"{len(devices)} x {devices[0].device_kind}", "cpu cores": os.cpu_count()}
    facts |= {"versions": versions() | {"jax": jax.__version__}, "cases": []}
    print(f"{facts['device']}, jax {jax.__version__}, torch {torch.__version__}\n\n| {' | '.join(HEAD)} |")
    print("|" + " --- |" * 2 + " ---: |" * 6, flush=True)
    given.output.mkdir(parents=True, exist_ok=True)
    counts = given.devices or sorted({1, len(devices)})
    for case in cases(given.configs, given.rows, counts, given.engines):
        print(line(case), flush=True)
        facts["cases"].append(case)
        write_whole(given.output / "xla.json", json.dumps(facts, indent=1) + "\n")
        if time.perf_counter() - began > given.seconds:
            print(f"ended after {given.seconds:.0f} s")
            break


if __name__ == "__main__":
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory too
    main(sys.argv[1:])
