"""Reads checkpoints of the released programs safely, and writes ours in EqR's format.

EqR releases a dict with weights, average and configuration (`.pth`). HRM and TRM release a bare state dict beside
its `all_config.yaml`. Others wrap them in other ways, which `runtime.foreign` knows.

A `.pth` is a pickle, and a pickle can run code. PyTorch's restricted unpickler loads it here. It knows a few harmless
names more, and refuses anything else in the file.
"""

import pickle
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from config.architectures import Arch, EqRArch, HRMArch, TRMArch
from config.load import validate
from config.yaml_file import plain, read_yaml
from models.layers import sinusoids
from runtime import checkpoint as ours
from runtime.files import whole
from runtime.foreign import released_names, weights_in

# our parameter names -> theirs, without `model.inner.` in front
_THEIR_NAMES = [
    (re.compile(r"^core\.L_level\.(?:f\.)?layers\."), "L_level.layers."),
    (re.compile(r"^core\.start\.([HL]_init)$"), r"\1"),
    (re.compile(r"^core\."), ""),
]
_NOT_STORED_HERE = {"absolute_pos_embedding"}
# the average leaves out puzzle embeddings and stored starts: the weights have them
_NOT_AVERAGED = re.compile(r"(puzzle_emb\.weights|[HL]_init|absolute_pos_embedding)$")
# the modules and classes of their models, and ours; any other has another forward pass until somebody compares it
_MODELS: dict[str, tuple[type[EqRArch | TRMArch | HRMArch] | None, str]] = {
    "eqr": (EqRArch, "EqRModel"),
    "trm": (TRMArch, "TRMModel TinyRecursiveReasoningModel_ACTV1"),
    "hrm": (HRMArch, "HierarchicalReasoningModel_ACTV1"),
    "hrm_act_v1": (HRMArch, "HierarchicalReasoningModel_ACTV1"),
}
# keys of their arch that change neither weights nor forward pass
_WITHOUT_MEANING = {"short_name", "H_layers", "no_ACT_continue", "batch_size", "seq_len", "vocab_size"}
# settings that cannot be changed here
_FIXED_HERE = {"rope_theta": 10000.0, "rms_norm_eps": 1e-5, "causal": False}


class _Inert:
    """Stands for the carry classes of the released programs. It holds what was pickled, and does nothing."""


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


# what a damaged file makes the unpickler raise
_DAMAGE = (
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
INFLATED = 10
"""A file may hold so many times as much as its size, and a MiB. PyTorch compresses nothing, so more is an attack."""


class Released(NamedTuple):
    """A released checkpoint. Weights have the released names, without `_orig_mod.`"""

    step: int
    arch: Arch
    data_path: str
    model: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    ignored: list[str]


def released_name(name: str) -> str:
    """The name of our parameter in a released checkpoint."""
    for pattern, theirs in _THEIR_NAMES:
        name = pattern.sub(theirs, name)
    return "model.inner." + name


def our_weights(released: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """A released state dict under our `names`. A missing weight stays missing, an unknown one keeps its name."""
    wanted = {released_name(name): name for name in names}
    return {wanted.get(key, key): t for key, t in released.items() if key.split(".")[-1] not in _NOT_STORED_HERE}


def _averaged(model: dict[str, Tensor], shadow: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    for name in model.keys() - shadow.keys():
        if not _NOT_AVERAGED.search(name):
            raise ValueError(f"{file} is not a complete checkpoint: its average has no {name}")
    return model | shadow


def our_arch(theirs: dict[str, Any]) -> tuple[Arch, list[str]]:
    """Our architecture from a released configuration's `arch`, and the keys without a counterpart here.

    Raises:
        ValueError: this program does not have the model, or refuses a value.
    """
    module, _, called = str(theirs.get("name", "")).partition("@")  # such as hrm.hrm_act_v1@HierarchicalReas...
    kind, classes = _MODELS.get(module.split(".")[-1], (None, ""))
    if kind is None or called not in ("", *classes.split()):
        raise ValueError(f"the checkpoint's arch.name is {theirs.get('name')!r}, which this program does not have")
    known = kind.model_fields.keys() - {"name", "loss"}
    values = {key: value for key, value in theirs.items() if key in known}
    for key, here in _FIXED_HERE.items():
        if theirs.get(key, here) != here:
            raise ValueError(f"the checkpoint's arch.{key} is {theirs[key]!r}, but this program knows only {here!r}")
    loss = theirs.get("loss", {}).get("loss_type", "stablemax_cross_entropy")
    ignored = sorted(theirs.keys() - known - {"name", "loss"} - _WITHOUT_MEANING - _FIXED_HERE.keys())
    name = module.split(".")[-1].split("_")[0]
    arch = validate(kind, {"name": name, "loss": {"loss_type": loss}, **values})
    return TypeAdapter(Arch).validate_python(arch), ignored


def load(path: str | Path) -> Released:
    """Reads a checkpoint of another program, a pickle or a .safetensors, without running any code in it.

    Raises:
        ValueError: the file is missing or damaged, holds more than plain data, or is not such a checkpoint.
    """
    file = ours.resolve(path)
    content: Any = _from_safetensors(file) if file.suffix == ".safetensors" else _unpickled(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file} is not a released checkpoint: it should hold a dict, not {type(content).__name__}")
    try:
        given = content.get("config")
        config = plain(given, f"{file}, config,") if isinstance(given, dict) else _config_beside(file)
        arch, ignored = our_arch(config["arch"])
        model = released_names(weights_in(content), file)
        ema = content.get("ema")
        return Released(
            step=int(content.get("step", _step_in_name(file))),
            arch=arch,
            data_path=_data_path(config),
            model=model,
            ema=_averaged(model, released_names(ema.get("shadow", ema), file), file) if ema else None,
            ignored=ignored,
        )
    except (LookupError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise ValueError(
            f"{file} is not a released checkpoint: it should hold `model`, `step` and `config` "
            f"({_first_sentence(error)})"
        ) from None


def _from_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is not a complete checkpoint: {error}") from None


def _unpickled(file: Path) -> Any:
    try:
        _require_sound(file)
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = re.search(r"(GLOBAL|global) (\S+)", str(error))
        if reason:
            raise ValueError(f"{file} was refused: it asks for code to be run ({reason.group(2)})") from None
        raise ValueError(
            f"{file} is no checkpoint (.safetensors or .pth), is damaged or asks for code to be run"
        ) from None
    except _DAMAGE as error:
        why = _first_sentence(error) if isinstance(error, (RuntimeError, OSError, zipfile.BadZipFile)) else ""
        raise ValueError(f"{file} is no checkpoint, or not a complete one" + (why and f" ({why})")) from None


def _step_in_name(file: Path) -> int:
    """7 for HRM's and TRM's `step_7`, else 0."""
    found = re.fullmatch(r"step_(\d{1,9})", file.stem)
    return int(found[1]) if found else 0


def _first_sentence(error: Exception) -> str:
    return re.split(r"\. |\n", str(error))[0]


def _require_sound(file: Path) -> None:
    """Checks a zip's checksums, and that it is not much larger inside. PyTorch looks at neither.

    Raises:
        zipfile.BadZipFile: it is damaged or too large.
    """
    if not zipfile.is_zipfile(file):  # the format before PyTorch 1.6, or something else
        return
    with zipfile.ZipFile(file) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > INFLATED * file.stat().st_size + 2**20:
            raise zipfile.BadZipFile(f"{size} bytes are packed into it")
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} in it has another checksum")


def _config_beside(file: Path) -> dict[str, Any]:
    """The `all_config.yaml` beside weights without a configuration, as HRM and TRM write it."""
    beside = file.with_name("all_config.yaml")
    if not beside.is_file():
        raise ValueError(
            f"{file} is not a checkpoint of this program and holds only weights, so its configuration should be beside "
            f"it, in {beside}"
        )
    config = read_yaml(beside)
    if not isinstance(config.get("arch"), dict):
        raise ValueError(f"{beside} should hold a configuration with `arch`")
    return config


def _data_path(config: dict[str, Any]) -> str:
    """The data's path in a released configuration. Each program writes it in its own way."""
    if "dataset" in config:
        return str(config["dataset"]["data_path"])
    paths = config.get("data_paths") or [config.get("data_path", "")]
    return str(paths[0])


def export(source: str | Path, target: Path) -> None:
    """Writes one of our checkpoints as a released `.pth`: weights, average, step and configuration."""
    checkpoint = ours.load(source, weights_only=True)
    config = checkpoint.config.model_dump(mode="json")
    kinds = {"eqr": ("eqr@EqRModel", "EqR"), "trm": ("trm@TRMModel", "TRM")}
    kind = kinds.get(checkpoint.config.arch.name)
    if kind is None:
        raise ValueError(f"{source} holds a {checkpoint.config.arch.name} model, but only eqr and trm can be exported")
    if config["arch"].get("H_layers"):
        raise ValueError(f"{source} has a second network (arch.H_layers), which the released programs do not have")
    config["arch"] |= {"name": kind[0], "short_name": kind[1], "H_layers": 0}
    config["arch"]["loss"] |= {"name": "losses@ACTLossHead"}
    content: dict[str, Any] = {
        "step": checkpoint.step,
        "total_steps": checkpoint.step,
        "model": {released_name(name): t for name, t in checkpoint.model.items()},
        "config": config,
    }
    if checkpoint.config.arch.pos_encodings == "absolute":
        length = checkpoint.config.arch.puzzle_tokens + checkpoint.puzzle_shape.seq_len
        content["model"]["model.inner.absolute_pos_embedding"] = sinusoids(length, checkpoint.config.arch.hidden_size)
    if checkpoint.ema is not None:
        shadow = {released_name(name): t for name, t in checkpoint.ema.items()}
        content["ema"] = {"mu": checkpoint.config.ema_rate, "shadow": shadow}
    with whole(target) as unfinished, open(unfinished, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # a full disk
            raise OSError(f"{target} was not written: {_first_sentence(error)}") from None
