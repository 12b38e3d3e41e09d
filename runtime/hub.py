"""Finds the file that a checkpoint's name means: a file, a folder, or an address on the Hugging Face hub.

An address is `hf://OWNER/NAME[/FILE][@REVISION]`. Its files lie in huggingface_hub's own cache, and its variables hold:
HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE. Without a network, or offline, what is in the cache is used.

Imports no PyTorch.
"""

import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from config.text import refuse_pointer

_CHECKPOINT = re.compile(r"(^|/)(checkpoint|step_\d{1,9}|[^/]*\.(safetensors|pth|pt|ckpt|bin))$")
_CONFIG = "all_config.yaml"  # of HRM, TRM and EqR: the configuration of the weights beside it
_REPO = r"[\w.-]+/[\w.-]+"
_ADDRESS = re.compile(rf"hf:/{{1,2}}({_REPO})(?:/([^@]+))?(?:@([\w./-]+))?", re.ASCII)  # one slash: from a Path
_TIME = re.compile(r"(\d{8}-\d{6})(?:-(\d{1,9}))?", re.ASCII)  # the name of a run's folder


class _Address(NamedTuple):
    repo: str
    inside: str  # a file or a folder; "" for the repository
    revision: str | None


def newest_run(folder: Path) -> Path:
    """The newest run with a checkpoint in `outputs/NAME`, the folder of all runs of a name. Any other path stays."""
    if any(path.is_file() and _CHECKPOINT.search(path.name) for path in folder.glob("[!.]*")):
        return folder
    saved = [file.parent for file in folder.glob("*/last.safetensors")]
    runs = {(name[1], int(name[2] or 1)): run for run in saved if (name := _TIME.fullmatch(run.name))}
    return runs[max(runs)] if runs else folder


def is_address(path: str | Path) -> bool:
    """Whether a checkpoint's name is an address on the hub."""
    return str(path).startswith("hf:/")


def resolve(path: str | Path) -> Path:
    """The checkpoint file that a path or an address names.

    A folder stands for its last.safetensors, else for the newest step_N of HRM and TRM, else for its only checkpoint.
    The folder of all runs of a name, `outputs/NAME`, stands for the newest run.

    Raises:
        ValueError: there is no such file, or the hub does not give it.
    """
    file, names = _fetched(str(path)) if is_address(path) else Path(path), list[str]()
    if file.is_dir():
        file = newest_run(file)
        names = sorted(other.name for other in file.iterdir() if other.is_file())
        file /= _usual(names) or "last.safetensors"
    if not file.is_file():
        raise ValueError(f"there is no checkpoint {file}" + (f"; the folder holds {_some(names)}" if names else ""))
    refuse_pointer(file)
    return file


def results_beside(path: str, file: Path) -> Path:
    """The file that results go beside: the checkpoint's own, but for an address one in outputs/OWNER/NAME."""
    return Path("outputs", _parsed(path).repo, file.name) if is_address(path) else file


def address_of(name: str) -> str:
    """The address of a repository's model, given "owner/name" with or without hf:// before it; a path stays a path."""
    return name if is_address(name) or Path(name).exists() else f"hf://{name}"


def require_repo(name: str) -> None:
    """Raises ValueError if this is no name of a repository."""
    if not re.fullmatch(_REPO, name, re.ASCII) or {".", ".."} & {*name.split("/")}:
        raise ValueError(f"a repository's name should be OWNER/NAME, not {name!r}")


def _usual(names: Collection[str]) -> str | None:
    """The file that a folder of these names stands for, or None."""
    steps = sorted((int(name[5:]), name) for name in names if re.fullmatch(r"step_\d{1,9}", name))
    alone = [name for name in names if _CHECKPOINT.search(name)]
    if "last.safetensors" in names:
        return "last.safetensors"
    return steps[-1][1] if steps else alone[0] if len(alone) == 1 else None


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (" and more" if len(names) > 5 else "")


def _parsed(address: str) -> _Address:
    found = _ADDRESS.fullmatch(address)
    repo, inside, revision = found.groups() if found else ("", None, None)
    inside = (inside or "").strip("/")
    steps = [*repo.split("/"), *inside.split("/"), *(revision or "").split("/")]
    if not found or {".", ".."} & {*steps}:
        raise ValueError(f"{address} should be hf://OWNER/NAME, with /FILE and @REVISION after it if wanted")
    return _Address(repo, inside, revision)


def _wanted(address: _Address, names: Collection[str]) -> str:
    """The checkpoint that an address names, of all files of its repository.

    Raises:
        ValueError: none of them, or several.
    """
    if address.inside in names:
        return address.inside
    below = f"{address.inside}/" if address.inside else ""
    inside = {name.removeprefix(below) for name in names if name.startswith(below)}
    if name := _usual({name for name in inside if "/" not in name}):
        return below + name
    all_of_them = [name for name in inside if _CHECKPOINT.search(name)]
    if len(all_of_them) == 1:
        return below + all_of_them[0]
    where = f"{address.repo}: " + (f"{address.inside}: " if address.inside else "")
    if all_of_them:
        raise ValueError(
            f"{where}there are several checkpoints: name one, such as hf://{address.repo}/{below}{min(all_of_them)}"
        )
    raise ValueError(f"{where}there is no checkpoint; the repository holds {_some(names) or 'nothing'}")


def _fetched(address: str) -> Path:
    """The file of an address, in the library's cache, with what belongs to it: configuration, weights, ONNX file.

    Raises:
        ValueError: the address is none, the hub does not give the file, or does not answer as a hub does.
    """
    from dataset.download import fetch_some  # needs a second

    parsed = _parsed(address)
    found = ""

    def wanted(names: Collection[str]) -> list[str]:
        nonlocal found
        found = _wanted(parsed, names)
        file = PurePosixPath(found)
        beside = file.with_name(_CONFIG), file.with_suffix(".safetensors"), file.with_suffix(".onnx")
        return [found, *({str(other) for other in beside} & {*names} - {found})]

    return fetch_some(parsed.repo, "model", parsed.revision, wanted) / found
