"""Writes a checkpoint's outer iteration as an ONNX file: python -m solving.export CHECKPOINT FILE (docs/onnx.md).

The graph has no state and no chance in it. Latents go in and come out, and starts and noise come from outside.

Shapes: B rows, S tokens, L positions, D features, N draws of noise in an outer iteration, V vocabulary.
"""

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.onnx import OnnxExporterError

from config.architectures import Arch, EqRArch
from config.command import command
from config.schema import EvalConfig
from dataset.boards import Kind, Maze, Sudoku, are_alike
from dataset.puzzles import PuzzleShape
from dataset.sudoku import BOXES
from evaluation.trajectory import evaluating
from models.core import Latents
from models.reasoner import Reasoner, State
from runtime import checkpoint as checkpoints
from runtime.files import require_place, whole
from runtime.load import Loaded, build_for_evaluation, learned_kind, load_model
from solving.onnx_file import FORMAT, digest, header
from solving.solver import puzzle_shape

try:
    import onnx
    import onnxscript.optimizer
except ModuleNotFoundError as error:
    if __name__ != "__main__":
        raise
    sys.exit(f"error: {sys.executable} has no {error.name}: pip install -e '.[export]' brings it")

PRECISIONS = ("float32", "float16", "int8")
_LARGE = 256
"""Numbers in fewer than so many elements stay in float32, whatever the precision."""


class _OuterIteration(nn.Module):
    """One outer iteration as a function of tensors: (inputs, latents, puzzle_ids) -> (latents, logits, q_halt)."""

    def __init__(self, model: Reasoner, q_continue: bool) -> None:
        super().__init__()
        self.model, self.q_continue = model, q_continue

    def forward(self, inputs_BS: Tensor, latents: Latents, puzzle_ids_B: Tensor | None = None) -> tuple[Tensor, ...]:
        zeros_B = torch.zeros_like(inputs_BS[:, 0])
        ids_B = zeros_B if puzzle_ids_B is None else puzzle_ids_B
        state, readout = self.model.iterate(State(latents, inputs_BS, inputs_BS, ids_B, zeros_B, zeros_B.bool()))
        halting = (readout.q_halt, readout.q_continue) if self.q_continue else (readout.q_halt,)
        return *state.latents, readout.logits, *halting


def kind_of(loaded: Loaded, shape: PuzzleShape) -> Kind | None:
    """The kind of puzzles that a model was trained on, None if it is not known. Its data say so for 4x4 boards."""
    if are_alike(*shape[:2]):
        return learned_kind(loaded)
    size = isqrt(shape.seq_len)
    kinds: list[Kind] = [Maze(size), *(Sudoku(side) for side in BOXES)]
    return next((kind for kind in kinds if (kind.size**2, kind.vocab_size) == shape[:2]), None)


def latent_names(arch: Arch) -> tuple[str, ...]:
    """The names of a model's latents in the graph, in the order of `Latents`."""
    if arch.name == "feedforward":
        return ("z",)
    return ("y", "c_H", "c_L") if arch.name in ("hrm_sru", "hrm_srupp") else ("z_H", "z_L")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides what the exporter says about packages and about itself."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def graph(model: Reasoner, arch: Arch, shape: PuzzleShape, kind: Kind | None = None) -> onnx.ModelProto:
    """One outer iteration of a float32 model as an ONNX graph, with everything about it as metadata.

    Raises:
        ValueError: this model cannot be exported.
    """
    names, ids = latent_names(arch), arch.puzzle_tokens > 0
    inputs_BS = torch.ones(2, shape.seq_len, dtype=torch.int32)  # the exporter takes a batch of one for a constant
    arguments = (inputs_BS, tuple(z.clone() for z in model.core.start(2)), *[torch.zeros_like(inputs_BS[:, 0])] * ids)
    batch = {0: torch.export.Dim("batch")}
    try:
        with _quiet(), evaluating(model), torch.no_grad():
            program = torch.onnx.export(
                _OuterIteration(model, arch.q_continue),
                arguments,
                input_names=["inputs", *names, *["puzzle_ids"] * ids],
                output_names=[
                    *(f"next_{name}" for name in names),
                    "logits",
                    "q_halt",
                    *["q_continue"] * arch.q_continue,
                ],
                dynamic_shapes=(batch, (batch,) * len(names), *[batch] * ids),
                dynamo=True,
                optimize=False,
                verbose=False,
            )
            assert program is not None
            # With the exporter's own limits, the transpose of a small weight becomes one more copy at every use.
            proto = onnxscript.ir.to_proto(onnxscript.optimizer.optimize(program.model, input_size_limit=_LARGE - 1))
    except OnnxExporterError as error:
        raise ValueError(f"{arch.name} cannot be written as ONNX: {str(error).splitlines()[0]}") from error
    _strip(proto)
    draws = _noise_from_outside(proto, shape.seq_len + arch.puzzle_tokens, arch.hidden_size)
    onnx.helper.set_model_props(
        proto, {key: json.dumps(value) for key, value in _facts(model, arch, shape, kind, draws).items()}
    )
    onnx.checker.check_model(proto)
    return proto


def _strip(proto: onnx.ModelProto) -> None:
    """Removes the exporter's notes on where each node comes from: most of a small model's file."""
    del proto.graph.value_info[:]
    for part in (
        proto,
        proto.graph,
        *proto.graph.node,
        *proto.graph.initializer,
        *proto.graph.input,
        *proto.graph.output,
    ):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _noise_from_outside(proto: onnx.ModelProto, length: int, dim: int) -> int:
    """Replaces the N draws in the graph by an input "noise" [B, N, L, D] of standard normal numbers. Returns N."""
    draws = [node for node in proto.graph.node if node.op_type == "RandomNormalLike"]
    for number, node in enumerate(draws):
        index = f"draw_{number}"
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(number), index))
        node.CopyFrom(onnx.helper.make_node("Gather", ["noise", index], node.output, node.name, axis=1))
    if draws:
        dimensions: list[str | int | None] = ["batch", len(draws), length, dim]
        proto.graph.input.append(onnx.helper.make_tensor_value_info("noise", onnx.TensorProto.FLOAT, dimensions))
    return len(draws)


def _facts(model: Reasoner, arch: Arch, shape: PuzzleShape, kind: Kind | None, draws: int) -> dict[str, Any]:
    """What a program must know to run the graph (docs/onnx.md)."""
    board = None if kind is None else [kind.size, kind.size]
    return {
        "format": FORMAT,
        "version": version("equilibrium-reasoners"),
        "model": arch.name,
        "task": None if kind is None else type(kind).__name__.lower(),
        "board": board,
        "vocabulary": None if kind is None else list(kind.characters(np.arange(shape.vocab_size))),
        "seq_len": shape.seq_len,
        "vocab_size": shape.vocab_size,
        "depth": arch.halt_max_steps,
        "latents": _latents(model, arch),
        "noise": {"draws": draws, "std": arch.noise_scale if isinstance(arch, EqRArch) else 0.0},
        "halting": {"learned": arch.learned_halting, "above": "q_continue" if arch.q_continue else 0.0},
    }


def _latents(model: Reasoner, arch: Arch) -> list[dict[str, Any]]:
    """Each latent: name, shape, values that it starts from (repeated until it is full), std of random starts."""
    latents = []
    for name, z in zip(latent_names(arch), model.core.start(1), strict=True):
        z = z[0].float()
        latent: dict[str, Any] = {"name": name, "shape": list(z.shape)}
        if arch.name == "eqr":
            latent["std"] = arch.H_init_std if name == "z_H" else arch.L_init_std
        else:
            values = z[0] if bool((z == z[0]).all()) else z.flatten()
            latent["values"] = values[:1].tolist() if bool((values == values[0]).all()) else values.tolist()
            if arch.random_starts and name != "y":
                latent["std"] = 1.0
        latents.append(latent)
    return latents


def in_precision(proto: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """The graph with its large weights stored in fewer bits. All arithmetic stays in float32.

    float16 rounds every number. int8 gives every row of a matrix its own scale, the largest magnitude of the row / 127,
    and keeps what is no matrix of weights in float16.
    """
    smaller = onnx.ModelProto()
    smaller.CopyFrom(proto)
    stored, nodes = list[onnx.TensorProto](), list[onnx.NodeProto]()
    for tensor in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if precision == "float32" or array.dtype != np.float32 or array.size < _LARGE:
            stored.append(tensor)
            continue
        small, cast = f"{tensor.name}/stored", f"{tensor.name}/cast"
        scaled = precision == "int8" and tensor.name.endswith("weight")
        if scaled:
            scale = np.maximum(np.abs(array).max(-1, keepdims=True), np.float32(1e-30)) / np.float32(127)
            stored.append(onnx.numpy_helper.from_array(np.rint(array / scale).astype(np.int8), small))
            stored.append(onnx.numpy_helper.from_array(scale, f"{tensor.name}/scale"))
            nodes.append(onnx.helper.make_node("Mul", [cast, f"{tensor.name}/scale"], [tensor.name]))
        else:
            stored.append(onnx.numpy_helper.from_array(array.astype(np.float16), small))
        full = cast if scaled else tensor.name
        nodes.insert(0, onnx.helper.make_node("Cast", [small], [full], to=onnx.TensorProto.FLOAT))
    del smaller.graph.initializer[:], smaller.graph.node[:]
    smaller.graph.initializer.extend(stored)
    smaller.graph.node.extend([*nodes, *proto.graph.node])
    return smaller


def graph_only(proto: onnx.ModelProto, checkpoint: Path) -> onnx.ModelProto:
    """The graph without weights. It reads them from the checkpoint, which must stay beside the file.

    Raises:
        ValueError: the checkpoint is a released one, whose tensors have no place in its file that a graph could name.
    """
    if checkpoint.suffix != ".safetensors":
        raise ValueError(f"{checkpoint} is no .safetensors, so its weights must go into the file: drop --graph-only")
    text = header(checkpoint)
    tensors = json.loads(text[8:])
    bare, nodes = onnx.ModelProto(), list[onnx.NodeProto]()
    bare.CopyFrom(proto)
    for tensor in bare.graph.initializer:
        name = tensor.name.removeprefix("model.")
        stored = tensors.get(f"ema/{name}") or tensors.get(f"model/{name}")
        if stored is None:
            continue
        first, end = stored["data_offsets"]
        dtype = onnx.TensorProto.BFLOAT16 if stored["dtype"] == "BF16" else onnx.TensorProto.FLOAT
        full = tensor.name
        tensor.CopyFrom(onnx.TensorProto(name=full, dims=stored["shape"], data_type=dtype))
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", checkpoint.name), ("offset", len(text) + first), ("length", end - first)):
            tensor.external_data.add(key=key, value=str(value))
        if dtype == onnx.TensorProto.BFLOAT16:
            tensor.name = f"{full}/stored"
            nodes.append(onnx.helper.make_node("Cast", [tensor.name], [full], to=onnx.TensorProto.FLOAT))
    operations = [*nodes, *bare.graph.node]
    del bare.graph.node[:]
    bare.graph.node.extend(operations)
    weights = {"file": checkpoint.name, "header": digest(checkpoint)}
    bare.metadata_props.add(key="weights", value=json.dumps(weights))
    return bare


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
