"""Prints parameters, work and speed of every experiment's model: python -m benchmarks.model_table [--rows N] [NAME ...]

Work is the forward pass of one outer iteration of one row: its matrix products and attention. Speed is measured on the
device that training would take: the median of a few steps after one to warm up.
"""

import argparse
import sys
from collections.abc import Sequence

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import block_medians
from config.load import load_pretrain
from config.options import count
from config.schema import PretrainConfig
from config.words import choices
from dataset.puzzles import Batch, PuzzleShape
from models import backend
from models.build import build, place
from models.losses import step_loss
from models.reasoner import Reasoner
from runtime.command import computing

SHAPES = {
    "arc": PuzzleShape(900, 12, 1),
    "maze": PuzzleShape(900, 6, 1),
    "4x4": PuzzleShape(16, 6, 1),
    "latin": PuzzleShape(25, 7, 1),
    "sudoku": PuzzleShape(81, 11, 1),
}
"""By a part of the data set's name; the first that matches counts."""


def shape_of(config: PretrainConfig) -> PuzzleShape | None:
    """The shape of the data set that a configuration names, with one puzzle identifier; None for other data."""
    return next((shape for key, shape in SHAPES.items() if key in config.dataset.data_path), None)


def batch_of(shape: PuzzleShape, rows: int, device: torch.device) -> Batch:
    """Puzzles of random tokens."""
    tokens = torch.randint(1, shape.vocab_size, (2, rows, shape.seq_len), dtype=torch.int32, device=device)
    return Batch(tokens[0], tokens[1], torch.zeros(rows, dtype=torch.int32, device=device))


def gigaflops(model: Reasoner, shape: PuzzleShape, training: bool = False) -> float:
    """Work of one outer iteration of one row of a plain model on the CPU; in training with its backward pass."""
    batch = batch_of(shape, 1, torch.device("cpu"))
    # attention written out, since the counter does not know every fused kernel
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
        _, readout = model.advance(model.start(batch))
        if training:
            (readout.logits.float().sum() + readout.q_halt.sum()).backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops()) / 1e9


def speeds(
    config: PretrainConfig, model: Reasoner, shape: PuzzleShape, rows: int, device: torch.device
) -> tuple[float, float]:
    """(training samples a second, evaluation rows a second): forward and backward, and forward alone."""
    batch = batch_of(shape, rows, device)
    state = model.start(batch)

    def train() -> None:
        new, readout = model.step(state, batch)
        step_loss(readout, new, config.arch)[0].backward()
        model.zero_grad()

    def evaluate() -> None:
        with torch.no_grad():
            model.advance(state)

    training, evaluation = (1000 * rows / block_medians(step, 1).ms for step in (train, evaluate))
    return training, evaluation


@computing("give fewer --rows")
def main(words: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Parameters, work and speed of every experiment's model.")
    parser.add_argument("names", nargs="*", help="experiments (by default all)")
    parser.add_argument("--rows", type=count, help="measure speed with so many rows (by default not at all)")
    arguments = parser.parse_args(words)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print("| config | parameters | GFLOP an outer iteration | training samples/s | evaluation rows/s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in arguments.names or choices("train"):
        dtype = [] if device.type == "cuda" else ["arch.forward_dtype=float32"]
        config = load_pretrain([f"train={name}", *dtype])
        shape = shape_of(config)
        if shape is None:
            continue
        chosen = backend.choose(config, config.arch, device)
        model = build(config.arch, shape)
        parameters = sum(p.numel() for key, p in model.named_parameters() if key != "puzzle_emb.weights")
        work = gigaflops(model, shape)
        shown = ["", ""]
        if arguments.rows:
            model = build(config.arch, shape, chosen)
            place(model, chosen, device)
            shown = [f"{speed:,.1f}" for speed in speeds(config, model, shape, arguments.rows, device)]
        print(f"| `{name}` | {parameters:,} | {work:.2f} | {shown[0]} | {shown[1]} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
