"""A checkpoint is one safetensors file. It is written whole or not at all, and reading it runs no code.

Tensors: `model/<parameter>`, `ema/<parameter>`, `optimizer/<parameter>/<moment>`, and `slots/<field>` for all processes
together if slots are kept. The header's metadata holds, as JSON: `format`, `step`, `config` (the resolved training
configuration), `task` and `versions`.

A checkpoint holds no state of random number generators, since every step seeds them (`training.trainer.seed_step`).
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from config.architectures import HRMSRUArch
from config.load import validate
from config.schema import PretrainConfig
from dataset.puzzles import PuzzleShape
from models.reasoner import State
from runtime.files import whole

FORMAT = "eqr-checkpoint-1"


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
    tensors = {f"model/{name}": t for name, t in checkpoint.model.items()}
    tensors |= {f"ema/{name}": t for name, t in (checkpoint.ema or {}).items()}
    for name, moments in checkpoint.optimizer.items():
        tensors |= {f"optimizer/{name}/{moment}": t for moment, t in moments.items()}
    if checkpoint.slots is not None:
        fields = checkpoint.slots._asdict()
        for i, latent in enumerate(fields.pop("latents")):
            tensors[f"slots/latents.{i}"] = latent
        tensors |= {f"slots/{name}": t for name, t in fields.items()}
    return {name: t.detach().cpu().contiguous() for name, t in tensors.items()}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint beside `path`, then moves it there, so that `path` is never half a file.

    After an error, an earlier file at `path` is as it was.

    Raises:
        ValueError: a weight is not finite.
        OSError: the disk is full, or the folder cannot be written to.
    """
    for name, tensor in checkpoint.model.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"step {checkpoint.step}: {name} is not finite, so {path} was not written")
    metadata = {
        "format": FORMAT,
        "step": str(checkpoint.step),
        "config": checkpoint.config.model_dump_json(),
        "task": json.dumps(checkpoint.puzzle_shape._asdict()),
        "versions": json.dumps(checkpoint.versions),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as unfinished:
        try:
            save_file(_flatten(checkpoint), unfinished, metadata)
        except SafetensorError as error:
            raise OSError(f"{path} was not written: {error}") from None
        os.chmod(unfinished, 0o666 & ~_umask())  # safetensors makes a file that only its owner can read
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def resolve(path: str | Path) -> Path:
    """The checkpoint file that a path names. A run's folder stands for its last checkpoint.

    Raises:
        ValueError: there is no such file.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "last.safetensors"
    if not file.is_file():
        raise ValueError(f"there is no checkpoint {file}")
    return file


def load(path: str | Path, weights_only: bool = False) -> Checkpoint:
    """Reads one of our checkpoints onto the CPU. With `weights_only` it reads neither optimizer nor slots.

    Raises:
        ValueError: the file is missing, incomplete or not one of ours.
    """
    file = resolve(path)
    try:
        with safe_open(file, "pt") as reader:
            metadata: dict[str, str] = reader.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"{file} is not a checkpoint of this program (its format should be {FORMAT})")
            groups: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}, "slots": {}}
            for key in reader.keys():
                group, name = key.split("/", 1)
                if not (weights_only and group in ("optimizer", "slots")):
                    groups[group][name] = reader.get_tensor(key)
        optimizer: dict[str, dict[str, Tensor]] = {}
        for key, tensor in groups["optimizer"].items():
            name, moment = key.rsplit("/", 1)
            optimizer.setdefault(name, {})[moment] = tensor
        return Checkpoint(
            step=int(metadata["step"]),
            config=validate(PretrainConfig, _as_now(json.loads(metadata["config"]))),
            puzzle_shape=PuzzleShape(**json.loads(metadata["task"])),
            model=groups["model"],
            ema=groups["ema"] or None,
            optimizer=optimizer,
            slots=_slots(groups["slots"]),
            versions=json.loads(metadata["versions"]),
        )
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is not a complete checkpoint: {error}") from None
    except ValueError as error:
        raise ValueError(str(error) if str(file) in str(error) else f"{file}: {error}") from None


def _as_now(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as it is written now. An older one of HRM-SRU has settings of blocks, which had no effect."""
    arch: dict[str, Any] = config["arch"]
    if arch["name"].startswith("hrm_sru"):
        known = HRMSRUArch.model_fields
        positions = "none" if arch["pos_encodings"].startswith("rope") else arch["pos_encodings"]
        arch = {key: value for key, value in arch.items() if key in known} | {"pos_encodings": positions}
    return config | {"arch": arch}


def _slots(tensors: dict[str, Tensor]) -> State | None:
    if not tensors:
        return None
    count = sum(name.startswith("latents.") for name in tensors)
    latents = tuple(tensors[f"latents.{i}"] for i in range(count))
    return State(latents, **{name: t for name, t in tensors.items() if not name.startswith("latents.")})


def put(into: nn.Module, weights: dict[str, Tensor], origin: str | Path) -> None:
    """Copies weights into a module. Every name and shape must match.

    Raises:
        ValueError: a name or a shape differs (the sentence says which), or a weight is not finite.
    """
    own = into.state_dict()
    faults = [f"{name} is missing" for name in own.keys() - weights.keys()]
    faults += [f"{name} is unknown" for name in weights.keys() - own.keys()]
    faults += [
        f"{name} is {list(weights[name].shape)} instead of {list(own[name].shape)}"
        for name in own.keys() & weights.keys()
        if own[name].shape != weights[name].shape
    ]
    if faults:
        shown = ", ".join(sorted(faults)[:3]) + (f" and {len(faults) - 3} more" if len(faults) > 3 else "")
        raise ValueError(f"{origin} does not fit the model: {shown}")
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{origin} cannot be used: {name} is not finite")
    into.load_state_dict(weights)


def optimizer_moments(optimizer: torch.optim.Optimizer, names: dict[Tensor, str]) -> dict[str, Any]:
    """The optimizer's tensors by parameter name."""
    return {names[p]: dict(state) for p, state in optimizer.state.items() if state}


def put_optimizer_moments(
    optimizer: torch.optim.Optimizer, names: dict[Tensor, str], moments: dict[str, dict[str, Tensor]]
) -> None:
    """The reverse of `optimizer_moments`. A parameter without gradient (q_head without learned halting) has none.

    Raises:
        ValueError: the checkpoint has no moments, or moments of other parameters.
    """
    by_name = {name: p for p, name in names.items()}
    if not moments or moments.keys() - by_name.keys():
        raise ValueError("the checkpoint holds no optimizer state for this model, so a run cannot go on from it")
    for name, state in moments.items():
        p = by_name[name]
        # counts such as `step` stay on the CPU, where the optimizer keeps them
        optimizer.state[p] = {key: t.to(p.device) if t.ndim else t for key, t in state.items()}
