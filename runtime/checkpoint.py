"""A checkpoint is one safetensors file. It is written whole or not at all, and reading it runs no code.

Tensors: `model/<parameter>`, `ema/<parameter>`, `optimizer/<parameter>/<moment>`, and `slots/<field>` for all processes
together if slots are kept. The header's metadata holds, as JSON: `format`, `step`, `config` (the resolved training
configuration), `task`, `versions` and `crc32`, checksums of every tensor's bytes and, as `header`, of the other
metadata. Files without checksums are older.

A checkpoint holds no state of random number generators, since every step seeds them (`training.trainer.seed_step`).
"""

import json
import os
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, Json
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from config.architectures import HRMSRUArch
from config.fields import Count
from config.json_file import typed
from config.load import validate
from config.schema import PretrainConfig
from dataset.puzzles import PuzzleShape
from models.reasoner import State
from runtime.files import whole
from runtime.fit import not_finite, require_finite, require_fit, skeleton, slot_tensors
from runtime.hub import resolve

FORMAT = "eqr-checkpoint-1"
GROUPS = ("model", "ema", "optimizer", "slots")
_OTHERS = "no run can go on from another program's, but load_checkpoint starts a new one from its weights"
NOT_AVERAGED = "puzzle_emb.weights"
"""Sign-SGD trains it, which neither the average nor the optimizer knows."""


class _Header(BaseModel):
    """The header's metadata."""

    step: Json[Count]
    config: Json[dict[str, Any]]
    task: Json[PuzzleShape]
    versions: Json[dict[str, str]]
    crc32: Json[dict[str, int]] = {}


class Checkpoint(NamedTuple):
    """A checkpoint in memory. `slots` is None if it was saved without slots."""

    step: int
    config: PretrainConfig
    puzzle_shape: PuzzleShape
    model: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    optimizer: dict[str, dict[str, Tensor]]
    slots: State | None
    versions: dict[str, str]


def _flatten(checkpoint: Checkpoint) -> dict[str, Tensor]:
    tensors = _under("model", checkpoint.model) | _under("ema", checkpoint.ema or {})
    tensors |= moment_tensors(checkpoint.optimizer)
    return tensors | (slot_tensors(checkpoint.slots) if checkpoint.slots is not None else {})


def moment_tensors(optimizer: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """The optimizer's tensors under their names in a checkpoint."""
    return {f"optimizer/{name}/{moment}": t for name, state in optimizer.items() for moment, t in state.items()}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint beside `path`, then moves it there, so that `path` is never half a file.

    After an error, an earlier file at `path` is as it was.

    Raises:
        ValueError: a number is not finite.
        OSError: the disk is full, or the folder cannot be written to.
    """
    tensors = _flatten(checkpoint)
    if name := not_finite(tensors):
        name = name.removeprefix("model/")
        raise ValueError(f"step {checkpoint.step}: {name} is not finite, so {path} was not written")
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    metadata = {
        "format": FORMAT,
        "step": str(checkpoint.step),
        "config": checkpoint.config.model_dump_json(),
        "task": json.dumps(checkpoint.puzzle_shape._asdict()),
        "versions": json.dumps(checkpoint.versions),
    }
    crc32 = {"header": _header_crc32(metadata)} | {name: _crc32(t) for name, t in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path, "") as unfinished:  # one training at a time writes here
        try:
            save_file(tensors, unfinished, metadata | {"crc32": json.dumps(crc32)})
        except SafetensorError as error:
            raise OSError(f"{path} was not written: {error}") from None
        os.chmod(unfinished, 0o666 & ~_umask())  # safetensors makes a file that only its owner can read
        with open(unfinished, "r+b") as file:
            os.fsync(file.fileno())


def _crc32(t: Tensor) -> int:
    return zlib.crc32(t.reshape(-1).view(torch.uint8).numpy().data)


def _header_crc32(metadata: Mapping[str, str]) -> int:
    return zlib.crc32(json.dumps({key: metadata[key] for key in sorted({*metadata} - {"crc32"})}).encode())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def is_ours(file: Path) -> bool:
    """Whether a file is one of our checkpoints, or could be if it were not damaged."""
    if file.suffix != ".safetensors":
        return False
    try:
        with safe_open(file, "pt") as reader:
            return (reader.metadata() or {}).get("format", "").startswith("eqr-checkpoint")
    except (SafetensorError, OSError):
        return True


def load(path: str | Path, weights_only: bool = False) -> Checkpoint:
    """Reads one of our checkpoints onto the CPU. With `weights_only` it reads neither optimizer nor slots.

    Weights, average and optimizer have the shapes that the configuration describes.

    Raises:
        ValueError: the file is missing, incomplete, damaged or not one of ours, or contradicts itself.
    """
    file = resolve(path)
    try:
        with safe_open(file, "pt") as reader:
            metadata: dict[str, str] = reader.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(
                    f"{file} is not a checkpoint of this program (its format should be {FORMAT}); {_OTHERS}"
                )
            header = typed(metadata, _Header, f"{file} is not a complete checkpoint; its header")
            if "header" in header.crc32 and header.crc32["header"] != _header_crc32(metadata):
                raise ValueError(f"{file} is damaged: its header is not what was saved, by its checksum")
            groups: dict[str, dict[str, Tensor]] = {name: {} for name in GROUPS}
            for key in reader.keys():
                group, _, name = key.partition("/")
                if group not in GROUPS:
                    raise ValueError(f"{file} is not a checkpoint of this program: it holds a tensor {key!r}")
                if not (weights_only and group in ("optimizer", "slots")):
                    groups[group][name] = t = reader.get_tensor(key)
                    if header.crc32 and header.crc32.get(key) != _crc32(t):
                        raise ValueError(f"{file} is damaged: {key} is not what was saved, by its checksum")
    except (SafetensorError, OSError) as error:
        if not is_ours(file):
            raise ValueError(f"{file} is not a checkpoint of this program; {_OTHERS}") from None
        raise ValueError(f"{file} is not a complete checkpoint: {error}") from None
    optimizer: dict[str, dict[str, Tensor]] = {}
    for key, tensor in groups["optimizer"].items():
        name, _, moment = key.rpartition("/")
        optimizer.setdefault(name, {})[moment] = tensor
    config = validate(PretrainConfig, _as_now(header.config), file)
    slots = _slots(groups["slots"], file)
    saved = Checkpoint(
        header.step, config, header.task, groups["model"], groups["ema"] or None, optimizer, slots, header.versions
    )
    _require_own_fit(saved, file)
    return saved


def _require_own_fit(saved: Checkpoint, file: Path) -> None:
    """Checks weights and average against the configuration beside them. One that is shipped may hold the average alone.

    Slots and the optimizer's state are compared by those who go on with them.
    """
    averages = saved.ema or {}
    model = skeleton(saved.config.arch, saved.puzzle_shape, saved.model.keys() | averages.keys(), file)
    averaged = {name: p for name, p in model.named_parameters() if averages and name != NOT_AVERAGED}
    own = {name: t for name, t in model.state_dict().items() if name in saved.model or name not in averaged}
    require_fit(own, saved.model, file)
    require_fit(_under("ema", averaged), _under("ema", averages), file)


def _under(group: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{group}/{name}": t for name, t in tensors.items()}


def _as_now(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as it is written now. An older one of HRM-SRU has settings of blocks, which had no effect."""
    arch = config.get("arch")
    if isinstance(arch, dict) and str(arch.get("name")).startswith("hrm_sru"):
        known, positions = HRMSRUArch.model_fields, str(arch.get("pos_encodings"))
        positions = "none" if positions.startswith("rope") else positions
        arch = {key: value for key, value in arch.items() if key in known} | {"pos_encodings": positions}
    return config | {"arch": arch}


def _slots(tensors: dict[str, Tensor], file: Path) -> State | None:
    if not tensors:
        return None
    latents = [f"latents.{i}" for i in range(sum(name.startswith("latents.") for name in tensors))]
    others = State._fields[1:]
    if tensors.keys() != {*latents, *others}:
        raise ValueError(f"{file} is not a complete checkpoint: its slots hold {', '.join(sorted(tensors))}")
    return State(tuple(tensors[name] for name in latents), *(tensors[name] for name in others))


def put(into: nn.Module, weights: dict[str, Tensor], origin: str | Path) -> None:
    """Copies weights into a module. Every name and shape must match.

    Raises:
        ValueError: a name or a shape differs (the sentence says which), or a weight is not finite.
    """
    require_fit(into.state_dict(), weights, origin)
    require_finite(weights, origin)
    into.load_state_dict(weights)


def optimizer_moments(optimizer: torch.optim.Optimizer, names: dict[Tensor, str]) -> dict[str, Any]:
    """The optimizer's tensors by parameter name."""
    return {names[p]: dict(state) for p, state in optimizer.state.items() if state}


def put_optimizer_moments(
    optimizer: torch.optim.Optimizer,
    names: dict[Tensor, str],
    moments: dict[str, dict[str, Tensor]],
    kept: dict[str, Tensor],
    without: Collection[str],
    origin: str,
) -> None:
    """The reverse of `optimizer_moments`.

    Args:
        optimizer: where to put them.
        names: of its parameters.
        moments: from a checkpoint.
        kept: what the optimizer keeps of a parameter: numbers by name, and tensors, which have its shape.
        without: parameters without gradient, which have no moments.
        origin: the checkpoint.

    Raises:
        ValueError: the checkpoint has no moments, or others, or a number is not finite.
    """
    wanted = {
        name: {moment: p if like.ndim else like for moment, like in kept.items()}
        for p, name in names.items()
        if name not in without or name in moments
    }
    tensors = moment_tensors(moments)
    require_fit(moment_tensors(wanted), tensors, f"{origin}: the optimizer's state")
    require_finite(tensors, origin)
    for name, t in tensors.items():
        if t.ndim == 0 and t < 1:
            raise ValueError(f"{origin} cannot be used: {name} counts steps from 1, but it is {t:g}")
    for p, name in names.items():
        if name in moments:
            # counts such as `step` stay on the CPU, where the optimizer keeps them
            optimizer.state[p] = {key: t.to(p) if t.ndim else t for key, t in moments[name].items()}
