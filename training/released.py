"""Checkpoints of the released programs (`.pth`): read them safely, and write ours in their format.

A `.pth` is a pickle, and a pickle can run code. PyTorch's restricted unpickler loads it here, with a
handful of harmless names added; anything else in the file is refused.
"""

import argparse
import pickle
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from config.load import validate
from config.schema import Arch, EqRArch, TRMArch
from training import checkpoint as ours

# our parameter names -> theirs, without the `model.inner.` in front
_THEIR_NAMES = [
    (re.compile(r"^core\.L_level\.(?:f\.)?layers\."), "L_level.layers."),
    (re.compile(r"^core\.start\.([HL]_init)$"), r"\1"),
]
_NOT_STORED_HERE = {"absolute_pos_embedding"}
# keys of their arch that say nothing about the model's weights or its forward pass
_WITHOUT_MEANING = {"short_name", "H_layers", "no_ACT_continue"}


class _Inert:
    """Stands in for the released programs' carry classes: holds what was pickled and does nothing."""


def _numpy_names() -> list[Any]:
    reconstruct = np.empty(0).__reduce__()[0]
    return [
        (reconstruct, "numpy._core.multiarray._reconstruct"),
        (reconstruct, "numpy.core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(kind)) for kind in ("uint8", "uint32", "uint64", "int32", "int64", "float32", "float64")},
    ]


_HARMLESS: list[Any] = [
    *(
        (_Inert, f"models.{module}.{name}")
        for module in ("eqr", "trm", "hrm")
        for name in ("ModelCarry", "LatentCarry")
    ),
    *_numpy_names(),
]


class Released(NamedTuple):
    """A released checkpoint. Weights have the released names without `_orig_mod.`"""

    step: int
    arch: Arch
    data_path: str
    model: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    ignored: list[str]


def released_name(name: str) -> str:
    """Our parameter's name in a released checkpoint."""
    for pattern, theirs in _THEIR_NAMES:
        name = pattern.sub(theirs, name)
    return "model.inner." + name


def our_weights(released: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """A released state dict under our `names`; what is missing stays missing, what is unknown keeps its name."""
    wanted = {released_name(name): name for name in names}
    return {wanted.get(key, key): t for key, t in released.items() if key.split(".")[-1] not in _NOT_STORED_HERE}


def _plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.replace("_orig_mod.", ""): tensor for key, tensor in weights.items()}


def our_arch(theirs: dict[str, Any]) -> tuple[Arch, list[str]]:
    """(our architecture, the keys that it has no place for) from a released configuration's `arch`.

    Raises:
        ValueError: a model that this program does not have, or values that it refuses.
    """
    name = str(theirs.get("name", "")).split("@")[0]
    kinds: dict[str, Any] = {"eqr": EqRArch, "trm": TRMArch}
    if name not in kinds:
        raise ValueError(f"the checkpoint's arch.name is {theirs.get('name')!r}, which this program does not have")
    known = kinds[name].model_fields.keys() - {"name", "loss"}
    values = {key: value for key, value in theirs.items() if key in known}
    loss = theirs.get("loss", {}).get("loss_type", "stablemax_cross_entropy")
    ignored = sorted(theirs.keys() - known - {"name", "loss"} - _WITHOUT_MEANING)
    arch = validate(kinds[name], {"name": name, "loss": {"loss_type": loss}, **values})
    return TypeAdapter(Arch).validate_python(arch), ignored


def load(path: str | Path) -> Released:
    """Reads a released `.pth` without running any code in it.

    Raises:
        ValueError: the file is missing, damaged, holds anything but plain data, or is not such a checkpoint.
    """
    file = ours.resolve(path)
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = re.search(r"(GLOBAL|global) (\S+)", str(error))
        refused = f" ({reason.group(2)})" if reason else ""
        raise ValueError(f"{file} was refused: it asks for code to be run{refused} or is damaged") from None
    except (RuntimeError, EOFError, OSError, KeyError) as error:
        raise ValueError(f"{file} is not a complete .pth checkpoint: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict) or "model" not in content or "config" not in content:
        raise ValueError(f"{file} is not a released checkpoint: it should hold a dict with `model` and `config`")
    arch, ignored = our_arch(content["config"]["arch"])
    model = _plain(content["model"])
    ema = content.get("ema")
    return Released(
        step=int(content["step"]),
        arch=arch,
        data_path=str(content["config"]["dataset"]["data_path"]),
        model=model,
        # what the average leaves out (puzzle embeddings, stored starts) comes from the weights
        ema=model | _plain(ema["shadow"]) if ema else None,
        ignored=ignored,
    )


def export(source: str | Path, target: Path) -> None:
    """Writes one of our checkpoints as a released `.pth`: weights, EMA, step and configuration."""
    checkpoint = ours.load(source, weights_only=True)
    config = checkpoint.config.model_dump(mode="json")
    kind = {"eqr": ("eqr@EqRModel", "EqR"), "trm": ("trm@TRMModel", "TRM")}[checkpoint.config.arch.name]
    config["arch"] |= {"name": kind[0], "short_name": kind[1], "H_layers": 0}
    config["arch"]["loss"] |= {"name": "losses@ACTLossHead"}
    content: dict[str, Any] = {
        "step": checkpoint.step,
        "total_steps": checkpoint.step,
        "model": {released_name(name): t for name, t in checkpoint.model.items()},
        "config": config,
    }
    if checkpoint.ema is not None:
        shadow = {released_name(name): t for name, t in checkpoint.ema.items()}
        content["ema"] = {"mu": checkpoint.config.ema_rate, "shadow": shadow}
    unfinished = target.with_name(f".{target.name}.unfinished")
    torch.save(content, unfinished)
    unfinished.replace(target)


def main() -> None:
    parser = argparse.ArgumentParser(description="Export a checkpoint in the released programs' .pth format.")
    parser.add_argument("checkpoint", help="one of our checkpoints, or a run directory")
    parser.add_argument("output", type=Path, help="the .pth to write")
    arguments = parser.parse_args()
    try:
        export(arguments.checkpoint, arguments.output)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
