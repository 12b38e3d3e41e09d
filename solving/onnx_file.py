"""What the writer and the reader of ONNX files agree on (docs/onnx.md)."""

import hashlib
from pathlib import Path

FORMAT = "eqr-onnx-1"


def header(checkpoint: Path) -> bytes:
    """The header of a safetensors file, with its length in front: which tensors it holds, and where.

    Raises:
        OSError: the file cannot be read.
    """
    with open(checkpoint, "rb") as file:
        length = file.read(8)
        return length + file.read(min(int.from_bytes(length, "little"), 2**26))


def digest(checkpoint: Path) -> str:
    """The SHA-256 of a safetensors file's header."""
    return hashlib.sha256(header(checkpoint)).hexdigest()
