"""Measures training and evaluation: plain, compiled, with kernels, in float8. python -m benchmarks.speed [CONFIG ...]

- Cases run one after the other on the same device. Each has a process of its own (or several), empty compiler caches
  and random puzzles of the config's shape. On a CPU, models compute in float32.
- A training step does everything: data, refill, forward, backward, optimizer, average, metrics. An evaluation
  iteration includes the residual.
- Times are medians over blocks of steps; each block ends by waiting for the device.
- Memory is PyTorch's peak over all steps from the first. On a CPU it is the peak of the process.
- torch's FlopCounterMode counts the work on the plain model, without what a backward pass computes again. Its share is
  relative to a large matrix product, measured on the device just before.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.model_table import gigaflops, shape_of
from benchmarks.timing import block_medians, synchronize
from config.command import unwinding
from config.load import load_pretrain
from config.options import count
from dataset.layout import Split, puzzle_split, write_dataset
from dataset.puzzles import Puzzles, PuzzleShape, TrainingBatches
from evaluation.trajectory import evaluating, trajectory
from models import backend
from models.build import build, place
from runtime import distributed
from runtime.command import computing
from runtime.files import require_place, write_whole
from runtime.versions import versions
from training.trainer import Trainer, seed_step

HOW = {
    "plain": ["kernels=off", "compile=false"],
    "compiled": ["kernels=off", "compile=true"],
    "kernels": [],
    "float8": ["kernels=float8"],
}
GPU = ("eqr_sudoku", "eqr_maze_unique", "eqr_maze_unique_d44_tuned")
CPU = {"quickstart": 96, "eqr_maze_unique_d44_tuned": 4}
"""The configs to measure if the command names none; on a CPU with so many rows."""
HEAD = ["config", "how", "rows", "training step", "samples/s", "TFLOP/s", "share", "memory"]
HEAD += ["evaluation iteration", "TFLOP/s", "share", "first step"]


def random_split(shape: PuzzleShape, count: int) -> Split:
    """`count` puzzles of random tokens."""
    tokens = np.random.default_rng(0).integers(1, shape.vocab_size, (2, count, shape.seq_len))
    inputs, labels = tokens.astype(np.uint8)
    return puzzle_split(inputs, labels, shape.vocab_size)


def ceilings() -> dict[str, float]:
    """TFLOP/s of a large product (bfloat16; CPU: float32) and TB/s of a copy (read and write) on this device."""
    on_gpu = torch.cuda.is_available()
    n, kind, device = (8192, torch.bfloat16, "cuda") if on_gpu else (1024, torch.float32, "cpu")
    a, b = (torch.randn(n, n, dtype=kind, device=device) for _ in range(2))
    source = torch.empty(2**31 if on_gpu else 2**27, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product, copy = block_medians(lambda: a @ b, 10).ms, block_medians(lambda: target.copy_(source), 5).ms
    return {"TFLOP/s": 2e-9 * n**3 / product, "TB/s": 2e-9 * source.numel() / copy}


def measure(words: list[str], data: str) -> dict[str, float | str]:
    """Measures one case, in this process (or in these processes)."""
    config = load_pretrain([*words, f"dataset.data_path={data}"])
    world = distributed.start(config.device)
    puzzles = Puzzles(data, "train", world.device)
    chosen = backend.choose(config, config.arch, world.device)
    seed_step(0, 0, 0)
    model = build(config.arch, puzzles.shape, chosen)
    place(model, chosen, world.device)
    batches = TrainingBatches(puzzles, config.global_batch_size, 0, (world.rank, world.size))
    trainer = Trainer(config, model, batches, world, chosen.graphs)
    started = time.perf_counter()
    trainer.train_step()
    synchronize()
    first = time.perf_counter() - started
    trainer.train_step()
    step = block_medians(trainer.train_step, 8).ms
    on_gpu = world.device.type == "cuda"
    memory = torch.cuda.max_memory_allocated() if on_gpu else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trainer.states.clear()

    batch = puzzles.rows(np.arange(config.rows_per_rank(world.size)) % len(puzzles))
    iterations = trajectory(model, batch, 10**9)
    with evaluating(model):
        iteration = block_medians(lambda: next(iterations), 8).ms
    times = {"first step s": first, "training ms": step, "GiB": memory / 2**30, "iteration ms": iteration}
    return {"why": chosen.why, **times}


def run_case(words: list[str], data: str, processes: int) -> dict[str, Any]:
    """Measures one case in new processes with empty caches. Raises ChildProcessError with the end of their output."""
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {
            "TRITON_CACHE_DIR": f"{cache}/triton",
            "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
        }
        command = [*launcher, "-m", "benchmarks.speed", "--case", data, *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        errors = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
        reason = errors[0] if errors else done.stdout[-500:] + done.stderr[-1500:]
        raise ChildProcessError(f"{' '.join(words)}: {reason}")
    result: dict[str, Any] = json.loads(lines[0])
    return result


def case(name: str, how: str, rows: int, processes: int, ceiling: float) -> dict[str, Any]:
    """Measures one case: times, work, and the share of what so many devices could do."""
    words = [f"train={name}", f"global_batch_size={rows}", *HOW[how]]
    words += [] if torch.cuda.is_available() else ["arch.forward_dtype=float32"]
    shape = shape_of(load_pretrain(words))
    assert shape is not None
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "data")
        write_dataset(data, {"train": random_split(shape, 4000)}, ["<blank>"])
        times = run_case(words, data, processes)
    row = {"config": name, "how": how, "rows": rows, "processes": processes, **times}
    for work_of, training in (("training", True), ("iteration", False)):
        work = rows * gigaflops(build(load_pretrain(words).arch, shape), shape, training)
        row[f"{work_of} TFLOP/s"] = work / row[f"{work_of} ms"]
        row[f"{work_of} share"] = work / row[f"{work_of} ms"] / (ceiling * processes)
    return row


def line(row: dict[str, Any]) -> str:
    """A row of the table as Markdown."""
    step, iteration = row["training ms"], row["iteration ms"]
    cells = [f"`{row['config']}`", row["how"], str(row["rows"]), f"{step:.1f} ms"]
    cells += [
        f"{1000 * row['rows'] / step:,.0f}",
        f"{row['training TFLOP/s']:.3g}",
        f"{row['training share']:.0%}",
    ]
    cells += [f"{row['GiB']:.1f} GiB", f"{iteration:.1f} ms", f"{row['iteration TFLOP/s']:.3g}"]
    return " | ".join(["", *cells, f"{row['iteration share']:.0%}", f"{row['first step s']:.1f} s", ""]).strip()


def ways(name: str) -> list[str]:
    """The ways in which this device can compute a config. Raises ValueError if there is no such config."""
    arch = load_pretrain([f"train={name}"]).arch
    if not torch.cuda.is_available():
        return ["plain", "compiled"]
    return [how for how in HOW if how != "float8" or not backend.no_float8(arch, torch.device("cuda"))]


@computing("give fewer --rows")
@unwinding()
def main(words: Sequence[str]) -> None:
    """The command line. If a case fails, the program ends as for a mistake."""
    parser = argparse.ArgumentParser(description="Speed of training and evaluation.")
    parser.add_argument("configs", nargs="*")
    parser.add_argument("--how", nargs="+", choices=HOW, help="by default all that this device has")
    parser.add_argument("--rows", type=count, help="rows of a step, all processes together (768; on a CPU fewer)")
    parser.add_argument("--processes", type=count, default=1, help="one a GPU")
    parser.add_argument("--output", type=Path, default=Path("speed.json"), help="%(default)s")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.case:
        print(json.dumps(measure(given.configs, given.case)))
    else:
        require_place(given.output, ".json", "--output ")
        run(given)


def run(given: argparse.Namespace) -> None:
    """Measures one case after the other; prints each and writes the file anew."""
    names = given.configs or (GPU if torch.cuda.is_available() else CPU)
    cases = [(name, how) for name in names for how in given.how or ways(name)]
    on_gpu = torch.cuda.is_available()
    device = (
        f"{given.processes} x {torch.cuda.get_device_name()}" if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    )
    reached = ceilings()
    print(f"{device}, torch {torch.__version__}; alone it reaches {reached['TFLOP/s']:.3g} TFLOP/s in a product and")
    print(
        f"{reached['TB/s']:.3g} TB/s in a copy\n\n| {' | '.join(HEAD)} |\n|{' --- |' * 2}{' ---: |' * (len(HEAD) - 2)}"
    )
    facts: dict[str, Any] = {"device": device, "versions": versions(), "ceilings": reached, "cases": []}
    for name, how in cases:
        rows = given.rows or (768 if on_gpu else CPU.get(name, 4))
        row = case(name, how, rows, given.processes, reached["TFLOP/s"])
        print(line(row), flush=True)
        facts["cases"].append(row)
        write_whole(given.output, json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
