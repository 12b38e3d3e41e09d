"""Stores the weights of an ONNX graph in fewer bits, or leaves them in the checkpoint (docs/onnx.md)."""

import json
from pathlib import Path

import numpy as np
import onnx

from solving.onnx_file import digest, header

PRECISIONS = ("float32", "float16", "int8")
LARGE = 256
"""Numbers in fewer than so many elements stay in float32, whatever the precision."""


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
        if precision == "float32" or array.dtype != np.float32 or array.size < LARGE:
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
