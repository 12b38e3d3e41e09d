"""Loads a model from one of our checkpoints or from a released `.pth`, without optimizer and training data."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from config.architectures import Arch
from config.fields import Role, keys
from config.load import validate
from config.schema import EvalConfig
from dataset.boards import Kind, are_alike, kind_of
from dataset.layout import Split, read_split
from dataset.puzzles import PuzzleShape
from models.backend import Backend, choose
from models.build import build, place
from models.core import Start
from models.reasoner import Reasoner
from runtime import checkpoint, released
from runtime.distributed import World
from runtime.fit import require_fit, skeleton

_CHANGED = "changed while it was read, by a training perhaps: try again, or take a copy"


class Loaded(NamedTuple):
    """What a checkpoint says about a model. `weights` may still have released names."""

    origin: Path
    digest: str  # of the file
    arch: Arch
    data_path: str
    step: int
    puzzle_shape: PuzzleShape | None  # None: the checkpoint does not say
    weights: dict[str, Tensor]
    averaged: bool
    notes: list[str]


def load_model(path: str, ema: bool = True) -> Loaded:
    """Reads a checkpoint, ours or a released one. `ema` prefers the averaged weights.

    Raises:
        ValueError: the file is missing, is no checkpoint that this program can read, or has changed meanwhile.
    """
    file = checkpoint.resolve(path)
    before = _version(file)
    with open(file, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    loaded = _read(file, digest, ema)
    if _version(file) != before:
        raise ValueError(f"{file} {_CHANGED}")
    return loaded


def load_everywhere(path: str, ema: bool, world: World) -> Loaded:
    """`load_model` in every process. Raises ValueError also if processes read different files."""
    loaded = load_model(path, ema)
    if set(world.gather_objects(loaded.digest)) != {loaded.digest}:
        raise ValueError(f"{loaded.origin} {_CHANGED}")
    return loaded


def _version(file: Path) -> tuple[int, ...]:
    """Numbers that differ after a file was written to, or after another file took its place."""
    status = file.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns


def _read(file: Path, digest: str, ema: bool) -> Loaded:
    if not checkpoint.is_ours(file):
        theirs = released.load(file)
        weights = theirs.ema if ema and theirs.ema is not None else theirs.model
        notes = [f"the released configuration's arch.{key} has no counterpart here" for key in theirs.ignored]
        averaged = weights is theirs.ema
        return Loaded(file, digest, theirs.arch, theirs.data_path, theirs.step, None, weights, averaged, notes)
    ours = checkpoint.load(file, weights_only=True)
    averaged = ema and ours.ema is not None
    weights = ours.model | (ours.ema or {}) if averaged else ours.model
    arch, data_path = ours.config.arch, ours.config.dataset.data_path
    return Loaded(file, digest, arch, data_path, ours.step, ours.puzzle_shape, weights, averaged, [])


def learned_kind(loaded: Loaded) -> Kind | None:
    """The kind of boards that a model was trained on; None if it is not known, as where its data are gone."""
    try:
        split = read_split(loaded.data_path, "train")
    except ValueError:
        return None
    return kind_of(split.inputs, split.labels, split.metadata.vocab_size)


def require_kind(loaded: Loaded, puzzles: Split) -> None:
    """Checks that puzzles are of the kind that a model was trained on, where shapes cannot tell: 4x4 boards.

    Raises:
        ValueError: they are of another kind.
    """
    metadata = puzzles.metadata
    if not are_alike(metadata.seq_len, metadata.vocab_size):
        return
    learned, kind = learned_kind(loaded), kind_of(puzzles.inputs, puzzles.labels, metadata.vocab_size)
    if learned and kind and learned != kind:
        raise ValueError(f"{loaded.origin} was trained on {learned.name}s, but these are {kind.name}s")


def weights_into(model: Reasoner, loaded: Loaded) -> None:
    """Puts the loaded weights into a model, strictly. Raises ValueError if they do not fit."""
    names = list(model.state_dict())
    checkpoint.put(model, released.our_weights(loaded.weights, names), loaded.origin)


def begin_from(model: Reasoner, loaded: Loaded) -> list[str]:
    """Puts loaded weights into a model that begins to train. Returns what to tell the user.

    Where the puzzles have other identifiers than those of the weights, all of them begin with the mean embedding.

    Raises:
        ValueError: the weights do not fit.
    """
    own = model.state_dict()
    weights, notes = released.our_weights(loaded.weights, list(own)), list(loaded.notes)
    table, name = weights.get(checkpoint.NOT_AVERAGED), checkpoint.NOT_AVERAGED
    if name in own and table is not None and table.shape != own[name].shape and table.shape[1:] == own[name].shape[1:]:
        weights[name] = table.mean(0, keepdim=True).expand_as(own[name])
        notes.append(
            f"{loaded.origin} has embeddings for {len(table)} puzzle identifiers, but these puzzles have "
            f"{len(own[name])}: all begin with the mean"
        )
    checkpoint.put(model, weights, loaded.origin)
    return notes


def at_evaluation(arch: Arch, config: EvalConfig) -> Arch:
    """`arch` with the settings that an evaluation changes: damping, noise, starts, precision.

    Raises:
        ValueError: the model does not have such a setting.
    """
    values = config.model_dump()
    asked = {name: values[name] for name in keys(EvalConfig, Role.MODEL) if values[name] is not None}
    for name in asked:
        if name not in type(arch).model_fields:
            raise ValueError(f"{name} is a setting of EqR, but the checkpoint's model is {arch.name}")
    changed: Arch = validate(type(arch), arch.model_dump() | asked)
    return changed


class Evaluable(NamedTuple):
    """A model as an evaluation runs it, with its weights, on its device."""

    arch: Arch  # with the evaluation's own settings
    model: Reasoner
    start: Start  # how trajectories start: as in training, or at random to give breadth
    backend: Backend


def build_for_evaluation(loaded: Loaded, config: EvalConfig, shape: PuzzleShape, device: torch.device) -> Evaluable:
    """Builds the model that a checkpoint holds. Puzzles are of the given shape.

    Breadth above 1 gives TRM, HRM and HRM-SRU random starts of std `different_init_reset_std`, unless that is None.

    Raises:
        ValueError: the checkpoint does not fit the puzzles, or lacks what the configuration asks for.
    """
    learned = loaded.puzzle_shape
    if learned is not None and learned[:2] != shape[:2]:
        raise ValueError(
            f"{loaded.origin} was trained on puzzles of {learned.seq_len} tokens out of {learned.vocab_size}, but "
            f"these have {shape.seq_len} out of {shape.vocab_size}"
        )
    if learned is not None and learned != shape and loaded.arch.puzzle_emb_ndim:
        raise ValueError(
            f"{loaded.origin} has embeddings for {learned.num_puzzle_identifiers} puzzle identifiers, but these "
            f"puzzles have {shape.num_puzzle_identifiers}"
        )
    if config.halt_q is not None and not loaded.arch.learned_halting:
        raise ValueError(f"halt_q={config.halt_q} needs a model that has learned to halt; {loaded.origin} has not")
    if learned is None:  # others have been compared when they were read
        expected = skeleton(loaded.arch, shape, loaded.weights, loaded.origin).state_dict()
        require_fit(expected, released.our_weights(loaded.weights, list(expected)), loaded.origin)
    arch, std = at_evaluation(loaded.arch, config), config.different_init_reset_std
    if arch.name == "eqr" and config.asks_for("different_init_reset_std"):
        raise ValueError(
            f"different_init_reset_std={json.dumps(std)} has no effect with EqR, which has random starts and noise: "
            "give H_init_std, L_init_std or noise_scale"
        )
    backend = choose(config, arch, device)
    model = build(arch, shape, backend)
    weights_into(model, loaded)
    place(model, backend, device)
    start = model.core.start
    if config.different_init > 1 and std is not None:
        start = start.randomized(std)
    return Evaluable(arch, model, start, backend)
