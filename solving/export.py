"""Writes a checkpoint's outer iteration as an ONNX file: python -m solving.export CHECKPOINT FILE (docs/onnx.md)."""

import argparse
import sys
from math import isqrt
from pathlib import Path

import torch

from config.command import command
from config.schema import EvalConfig
from dataset.boards import Kind, Maze, Sudoku, are_alike
from dataset.puzzles import PuzzleShape
from dataset.sudoku import BOXES
from runtime import checkpoint as checkpoints
from runtime.files import require_place, whole
from runtime.load import Loaded, build_for_evaluation, learned_kind, load_model
from solving.solver import puzzle_shape

try:
    import onnx

    from solving.onnx_graph import graph
    from solving.onnx_weights import PRECISIONS, graph_only, in_precision
except ModuleNotFoundError as error:
    if __name__ != "__main__":
        raise
    sys.exit(f"error: {sys.executable} has no {error.name}: pip install -e '.[export]' brings it")


def kind_of(loaded: Loaded, shape: PuzzleShape) -> Kind | None:
    """The kind of puzzles that a model was trained on, None if it is not known. Its data say so for 4x4 boards."""
    if are_alike(*shape[:2]):
        return learned_kind(loaded)
    size = isqrt(shape.seq_len)
    kinds: list[Kind] = [Maze(size), *(Sudoku(side) for side in BOXES)]
    return next((kind for kind in kinds if (kind.size**2, kind.vocab_size) == shape[:2]), None)


def iteration(checkpoint: str, seq_len: int | None = None, vocab_size: int | None = None) -> onnx.ModelProto:
    """A checkpoint's outer iteration as a graph in float32.

    Args:
        checkpoint: its path.
        seq_len, vocab_size: the shape of the puzzles. Released checkpoints need it, because they do not say.

    Raises:
        ValueError: there is no such checkpoint, or its model cannot be exported.
    """
    loaded = load_model(checkpoint)
    shape = puzzle_shape(loaded, seq_len, vocab_size)
    config = EvalConfig(checkpoint=checkpoint, forward_dtype="float32", kernels="off", compile=False)
    model = build_for_evaluation(loaded, config, shape, torch.device("cpu")).model
    return graph(model, loaded.arch, shape, kind_of(loaded, shape))


@command()
def main(words: list[str]) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m solving.export",
        description="Write a checkpoint's outer iteration as an ONNX file (docs/onnx.md).",
    )
    parser.add_argument("checkpoint", help="a checkpoint or a run directory")
    parser.add_argument("file", type=Path, help="the file to write, its name ending in .onnx")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of the stored weights")
    parser.add_argument("--graph-only", action="store_true", help="leave the weights in the checkpoint beside the file")
    parser.add_argument("--seq-len", type=int, metavar="N", help="tokens of a puzzle, for a released checkpoint")
    parser.add_argument("--vocab-size", type=int, metavar="N", help="its vocabulary, for a released checkpoint")
    options = parser.parse_args(words)
    file: Path = options.file
    require_place(file, ".onnx")
    checkpoint = checkpoints.resolve(options.checkpoint)
    if options.graph_only and (options.precision != "float32" or file.parent.resolve() != checkpoint.parent.resolve()):
        raise ValueError(f"--graph-only writes beside {checkpoint}, and leaves the precision of its weights as it is")
    proto = iteration(options.checkpoint, options.seq_len, options.vocab_size)
    proto = graph_only(proto, checkpoint) if options.graph_only else in_precision(proto, options.precision)
    with whole(file) as unfinished:
        unfinished.write_bytes(proto.SerializeToString())
    print(f"written: {file} ({file.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    main(sys.argv[1:])
