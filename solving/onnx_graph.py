"""A model's outer iteration as an ONNX graph, with what a program must know to run it (docs/onnx.md).

The graph has no state and no chance in it. Latents go in and come out, and starts and noise come from outside.

Shapes: B rows, S tokens, L positions, D features, N draws of noise in an outer iteration.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypeGuard

import numpy as np
import onnx
import onnxscript.ir
import torch
from onnxscript.optimizer import optimize_ir
from torch import Tensor, nn
from torch._higher_order_ops.while_loop import while_loop
from torch.onnx import OnnxExporterError

from config.architectures import Arch, EqRArch
from dataset.boards import Kind
from dataset.puzzles import PuzzleShape
from evaluation.trajectory import evaluating
from models.core import Core, Latents, RandomInit
from models.reasoner import Reasoner
from models.recursion import Recursion
from solving.onnx_attention import TRANSLATIONS
from solving.onnx_file import FORMAT
from solving.onnx_weights import LARGE


class _OuterIteration(nn.Module):
    """One outer iteration as a function of tensors: (inputs, latents, puzzle_ids) -> (latents, logits, q_halt)."""

    def __init__(self, model: Reasoner, q_continue: bool) -> None:
        super().__init__()
        self.model, self.q_continue = model, q_continue

    def forward(self, inputs_BS: Tensor, latents: Latents, puzzle_ids_B: Tensor | None = None) -> tuple[Tensor, ...]:
        core = self.model.core
        x_BLD = self.model.embed(inputs_BS, torch.zeros_like(inputs_BS[:, 0]) if puzzle_ids_B is None else puzzle_ids_B)
        latents = _as_a_loop(core, latents, x_BLD) if _is_one_network(core) else core(latents, x_BLD)
        logits, q_halt, q_continue = self.model.read_out(latents[0], inputs_BS.shape[1])
        return *latents, logits, q_halt, *[q_continue] * self.q_continue


def _is_one_network(core: Core) -> TypeGuard[Recursion]:
    return isinstance(core, Recursion) and core.H_level is None


def _as_a_loop(core: Recursion, latents: Latents, x_BLD: Tensor) -> Latents:
    """What `core` computes, as one loop around its network. So a runtime keeps each weight once, not once for each use.

    A step updates z_L, and the last of L_cycles + 1 steps z_H.
    """
    steps = core.L_cycles + 1

    def unfinished(step: Tensor, z_H: Tensor, z_L: Tensor) -> Tensor:
        return step < core.H_cycles * steps

    def update(step: Tensor, z_H: Tensor, z_L: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        last = step % steps == core.L_cycles
        z = core.L_level(torch.where(last, z_H, z_L), torch.where(last, z_L, z_H + x_BLD))
        return step + 1, torch.where(last, z, z_H), torch.where(last, z_L, z)

    _, *latents_after = while_loop(unfinished, update, (torch.tensor(0), *latents))
    return tuple(latents_after)


LATENT_NAMES = {
    "eqr": ("z_H", "z_L"),
    "trm": ("z_H", "z_L"),
    "hrm": ("z_H", "z_L"),
    "hrm_sru": ("y", "c_H", "c_L"),
    "hrm_srupp": ("y", "c_H", "c_L"),
    "feedforward": ("z",),
}
"""By arch.name: the names of a model's latents in the graph, in the order of `Latents`."""


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
    if arch.name not in LATENT_NAMES:
        raise ValueError(f"{arch.name} cannot be written as ONNX: name its latents in solving/onnx_graph.py")
    names, ids = LATENT_NAMES[arch.name], arch.puzzle_tokens > 0
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
                custom_translation_table=TRANSLATIONS,
                optimize=False,
                verbose=False,
            )
            assert program is not None
            optimize_ir(program.model, input_size_limit=LARGE - 1, should_fold=_keeps_weights)
            proto = onnxscript.ir.to_proto(program.model)
    except OnnxExporterError as error:
        cause = error.__cause__ or error
        why = (str(cause) or type(cause).__name__).splitlines()[0]
        raise ValueError(f"{arch.name} cannot be written as ONNX: {why}") from error
    _strip(proto)
    draws = _noise_from_outside(proto, model.core, shape.seq_len + arch.puzzle_tokens, arch.hidden_size)
    onnx.helper.set_model_props(
        proto, {key: json.dumps(value) for key, value in _facts(model, arch, shape, kind, draws).items()}
    )
    onnx.checker.check_model(proto)
    return proto


def _keeps_weights(node: onnxscript.ir.Node) -> bool | None:
    """Keeps the exporter from transposing weights, so that they stay those of the checkpoint. None: as it likes."""
    return False if node.op_type == "Transpose" else None


def _bodies(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """The bodies of a graph's loops."""
    return [node.attribute[0].g for node in graph.node if node.op_type == "Loop"]


def _strip(proto: onnx.ModelProto) -> None:
    """Removes the exporter's notes on where each node comes from: most of a small model's file."""
    proto.ClearField("metadata_props")
    for graph in (proto.graph, *_bodies(proto.graph)):
        del graph.value_info[:]
        for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
            part.ClearField("metadata_props")
            part.ClearField("doc_string")


def _noise_from_outside(proto: onnx.ModelProto, core: Core, length: int, dim: int) -> int:
    """Replaces the draw in the loop by an input "noise" [B, N, L, D] of standard normal numbers. Returns N.

    Step n of the loop takes the n-th of them. Raises ValueError if a core of other parts than EqR's draws.
    """
    bodies = (proto.graph, *_bodies(proto.graph))
    draws = [(node, body) for body in bodies for node in body.node if node.op_type.startswith("Random")]
    if not draws:
        return 0
    if not _is_one_network(core) or any(body is proto.graph for _, body in draws):
        raise ValueError("a model with noise can be written as ONNX only if its core is one network, as EqR's")
    steps = core.H_cycles * (core.L_cycles + 1)
    for node, body in draws:
        step = body.input[0].name
        node.CopyFrom(onnx.helper.make_node("Gather", ["noise", step], node.output, node.name, axis=1))
    dimensions: list[str | int | None] = ["batch", steps, length, dim]
    proto.graph.input.append(onnx.helper.make_tensor_value_info("noise", onnx.TensorProto.FLOAT, dimensions))
    return steps


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
    start, latents = model.core.start, []
    for i, (name, z) in enumerate(zip(LATENT_NAMES[arch.name], start(1), strict=True)):
        z = z[0].float()
        latent: dict[str, Any] = {"name": name, "shape": list(z.shape)}
        if isinstance(start, RandomInit):
            latent["std"] = start.stds[i]
        else:
            values = z[0] if bool((z == z[0]).all()) else z.flatten()
            latent["values"] = values[:1].tolist() if bool((values == values[0]).all()) else values.tolist()
            if arch.random_starts and name != "y":
                latent["std"] = 1.0
        latents.append(latent)
    return latents
