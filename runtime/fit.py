"""Compares the tensors of a checkpoint with those of the model that its configuration describes.

Nothing of a wrong checkpoint is built: a model on the meta device has shapes alone.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from config.architectures import Arch
from dataset.puzzles import PuzzleShape
from models.build import build
from models.reasoner import Reasoner, State

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""Floating-point numbers that every operation knows. One kind may stand for another."""


def skeleton(arch: Arch, shape: PuzzleShape, weights: Collection[str], origin: object) -> Reasoner:
    """The model's shapes: a model on the meta device. It has no rotary or sinusoidal tables, which nobody stores.

    Args:
        arch: the model's settings.
        shape: of its puzzles.
        weights: the names of the weights that a checkpoint has for it.
        origin: the checkpoint.

    Raises:
        ValueError: it has more layers than the checkpoint has weights.
    """
    layers = sum(getattr(arch, name, 0) for name in ("L_layers", "H_layers"))
    if layers > len(weights):
        raise ValueError(f"{origin} does not fit its configuration: {layers} layers, but only {len(weights)} weights")
    stored = "learned" if arch.pos_encodings == "learned" else "none"
    with torch.device("meta"):
        return build(arch.model_copy(update={"pos_encodings": stored}), shape)


def require_fit(wanted: Mapping[str, Tensor], given: Mapping[str, object], origin: object) -> None:
    """Checks names, shapes and dtypes.

    Raises:
        ValueError: they differ. The sentence names the first three faults.
    """
    faults = [f"{name} is missing" for name in wanted.keys() - given.keys()]
    faults += [f"{name} is unknown" for name in given.keys() - wanted.keys()]
    for name in wanted.keys() & given.keys():
        if fault := _fault(wanted[name], given[name]):
            faults.append(f"{name} {fault}")
    if faults:
        shown = ", ".join(sorted(faults)[:3]) + (f" and {len(faults) - 3} more" if len(faults) > 3 else "")
        raise ValueError(f"{origin} does not fit the model: {shown}")


def _fault(wanted: Tensor, given: object) -> str | None:
    if not isinstance(given, Tensor):
        return "is no tensor"
    if given.layout != torch.strided or given.is_quantized or given.is_meta:
        return "is no plain tensor"
    if given.shape != wanted.shape:
        return f"is {list(given.shape)} instead of {list(wanted.shape)}"
    if given.dtype != wanted.dtype and not (given.dtype in FLOATS and wanted.dtype in FLOATS):
        return f"holds {given.dtype} instead of {wanted.dtype}".replace("torch.", "")
    return None


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a number that is NaN or infinite; None if all are finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return None


def require_finite(tensors: Mapping[str, Tensor], origin: object) -> None:
    """Raises ValueError if a number is NaN or infinite. The sentence names the tensor."""
    if name := not_finite(tensors):
        raise ValueError(f"{origin} cannot be used: {name} is not finite")


def slot_tensors(slots: State) -> dict[str, Tensor]:
    """The tensors of slots under their names in a checkpoint."""
    fields = slots._asdict()
    latents = {f"slots/latents.{i}": z for i, z in enumerate(fields.pop("latents"))}
    return latents | {f"slots/{name}": t for name, t in fields.items()}


def require_slots(given: State, fresh: State, rows: int, shape: PuzzleShape, most: int, origin: object) -> None:
    """Checks slots: shapes, dtypes, and that tokens, identifiers and steps are within their ranges.

    Args:
        given: the slots of a checkpoint.
        fresh: a new row.
        rows: how many there should be.
        shape: of the puzzles.
        most: the most steps that a row makes.
        origin: the checkpoint.

    Raises:
        ValueError: they do not fit.
    """
    wanted = {name: t[:1].expand(rows, *t.shape[1:]) for name, t in slot_tensors(fresh).items()}
    require_fit(wanted, slot_tensors(given), origin)
    require_finite(slot_tensors(given), origin)
    lowest = torch.iinfo(torch.int32).min
    ranges = {
        "inputs": (0, shape.vocab_size - 1),
        "labels": (lowest, shape.vocab_size - 1),  # below 0: not scored
        "puzzle_ids": (0, shape.num_puzzle_identifiers - 1),
        "steps": (0, most),
    }
    for name, (low, high) in ranges.items():
        values = getattr(given, name)
        if values.min() < low or values.max() > high:
            raise ValueError(
                f"{origin} cannot be used: slots/{name} holds values from {values.min()} to {values.max()} instead of "
                f"{low} to {high}"
            )
