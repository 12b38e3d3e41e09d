"""Speed of training and evaluation with kernels on and off: python -m benchmarks.speed [--rows N] [CONFIG ...]

Every case runs in a process of its own with empty compiler caches, one after the other on the same device, on
random puzzles of the config's shape. A training step is everything: data, refill, forward, backward, optimizer,
average, metrics. An evaluation iteration includes the residual. Times are medians over blocks of steps, at whose
ends the device is waited for; memory is the peak that PyTorch reports, of all steps from the first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.model_table import task_of
from config.load import load_pretrain
from dataset.layout import Metadata, Split, write_dataset
from dataset.puzzles import Puzzles, Task, TrainingBatches
from evaluation.trajectory import Residuals, trajectory
from models import backend, build, place
from training import distributed
from training.trainer import Trainer, seed_step

CONFIGS = ("eqr_sudoku", "eqr_maze_unique", "eqr_maze_unique_d44_tuned")


def random_split(task: Task, count: int) -> Split:
    """`count` puzzles of random tokens."""
    rng = np.random.default_rng(0)
    inputs, labels = rng.integers(1, task.vocab_size, (2, count, task.seq_len)).astype(np.uint8)
    indices = np.arange(count + 1, dtype=np.int32)
    metadata = Metadata(
        pad_id=0,
        ignore_label_id=0,
        blank_identifier_id=0,
        vocab_size=task.vocab_size,
        seq_len=task.seq_len,
        num_puzzle_identifiers=task.num_puzzle_identifiers,
        total_groups=count,
        mean_puzzle_examples=1.0,
        sets=["all"],
        total_samples=count,
    )
    return Split(inputs, labels, np.zeros(count, np.int32), indices, indices, metadata)


def block_medians(step: Callable[[], object], steps: int, blocks: int = 5) -> float:
    """Milliseconds of one step: the median over `blocks` blocks of `steps` steps, after one block to warm up."""
    times = []
    for _ in range(blocks + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - started) / steps)
    return statistics.median(times[1:])


def measure(words: list[str], data: str) -> dict[str, float | str]:
    """One case, in this process (or in these processes)."""
    config = load_pretrain([*words, f"dataset.data_path={data}"])
    world = distributed.start("cuda")
    puzzles = Puzzles(data, "train", world.device)
    chosen = backend.choose(config, config.arch, world.device)
    seed_step(0, 0, 0)
    model = build(config.arch, puzzles.task, chosen)
    place(model, chosen, world.device)
    batches = TrainingBatches(puzzles, config.global_batch_size, 0, (world.rank, world.size))
    trainer = Trainer(config, model, batches, world, chosen.graphs)
    started = time.perf_counter()
    trainer.train_step()
    torch.cuda.synchronize()
    first = time.perf_counter() - started
    trainer.train_step()
    step = block_medians(trainer.train_step, 8)
    memory = torch.cuda.max_memory_allocated() / 2**30
    trainer.states.clear()

    batch = puzzles.rows(np.arange(config.rows_per_rank(world.size)) % len(puzzles))
    residuals = Residuals(3)
    model.eval()
    steps = trajectory(model, batch, 10**9)

    def iterate() -> None:
        residuals.add(next(steps)[1].logits)

    result = {"first step s": first, "training ms": step, "GiB": memory, "iteration ms": block_medians(iterate, 8)}
    distributed.wait_for_all()
    distributed.stop()
    return {"why": chosen.why, **result}


def run_case(words: list[str], data: str, processes: int) -> dict[str, float | str]:
    """One case in new processes with empty caches. Raises RuntimeError with the end of what they printed."""
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
        raise RuntimeError(f"{' '.join(words)}: {done.stdout[-500:]}{done.stderr[-1500:]}")
    result: dict[str, float | str] = json.loads(lines[0])
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description="Speed with kernels on and off.")
    parser.add_argument("configs", nargs="*", default=CONFIGS)
    parser.add_argument("--rows", type=int, default=768, help="rows of a step, all processes together")
    parser.add_argument("--processes", type=int, default=1, help="one a GPU")
    parser.add_argument("--kernels", nargs="*", default=["off", "auto"])
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments.configs, arguments.case)), flush=True)
        return 0
    if not torch.cuda.is_available():
        print("error: there is no GPU to measure", file=sys.stderr)
        return 1
    print(f"{arguments.processes} x {torch.cuda.get_device_name()}, torch {torch.__version__}, {arguments.rows} rows")
    print("| config | kernels | training step | samples/s | memory | evaluation iteration | first step |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name in arguments.configs:
        task = task_of(load_pretrain([f"train={name}"]))
        assert task is not None
        with tempfile.TemporaryDirectory() as folder:
            data = str(Path(folder) / "data")
            write_dataset(data, {"train": random_split(task, 4000)}, ["<blank>"])
            for kernels in arguments.kernels:
                words = [f"train={name}", f"global_batch_size={arguments.rows}", f"kernels={kernels}"]
                found = run_case(words, data, arguments.processes)
                step, iteration = float(found["training ms"]), float(found["iteration ms"])
                print(
                    f"| `{name}` | {kernels} | {step:.1f} ms | {1000 * arguments.rows / step:,.0f} "
                    f"| {found['GiB']:.1f} GiB | {iteration:.1f} ms | {found['first step s']:.1f} s |",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
