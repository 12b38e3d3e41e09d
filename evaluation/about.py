"""What is evaluated and how. It stands beside the parts of an unfinished evaluation, so that no others are mixed in."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from config.architectures import Arch
from config.fields import Positive, Role, keys
from config.json_file import read_json, typed
from config.schema import EvalConfig
from dataset.layout import located
from dataset.puzzles import Puzzles
from evaluation.engine import Devices
from evaluation.results import RESULTS, Facts, read_results
from evaluation.settings import Settings
from evaluation.units import Part, Plan
from models.backend import Backend
from runtime.load import Loaded
from runtime.versions import versions


@dataclass(frozen=True)
class About:
    """What is evaluated and how. Parts whose `same` is equal are parts of one evaluation."""

    same: dict[str, Any]
    units: Positive
    puzzles: Positive
    settings: Settings
    facts: dict[str, Any]
    """For results.json."""
    data: str = ""
    """The absolute path of the data set."""

    def data_path(self) -> Path:
        """Where the puzzles lie: as the configuration names the folder or, seen from elsewhere, its absolute path."""
        named = Path(self.facts["dataset"])
        return named if named.is_dir() else Path(self.data or named)

    def difference(self, other: "About") -> str | None:
        """What differs between two evaluations, in words: the first key of `same`. None for the same evaluation."""
        return _difference(self.same, other.same)

    def is_finished(self, directory: Path) -> bool:
        """Whether a folder has the results of this evaluation. Raises ValueError for those of another one."""
        if not (directory / RESULTS).exists():
            return False
        same = read_results(directory).get("same")
        why = _difference(self.same, _as_now(same, str(directory / RESULTS))) if same else "or one of an older program"
        if why is not None:
            raise ValueError(f"{directory} holds the results of a different evaluation ({why}): give another eval_dir")
        return True

    def fits(self, part: Part) -> bool:
        """Whether a part on disk can be one of this evaluation's."""
        return part.unit in range(self.units) and part.tallies.keys() == set(self.settings.depths)

    def to_json(self) -> str:
        """The text of about.json."""
        return json.dumps(asdict(self), indent=1) + "\n"


class _Same(BaseModel):
    """What `About.same` has for certain."""

    arch: Annotated[Arch, Field(discriminator="name")]
    backend: str
    max_puzzles: Positive


def read_about(file: Path) -> About:
    """An about.json. Raises ValueError if it holds something else, or contradicts itself."""
    about = read_json(file, About)
    same = _as_now(about.same, str(file))
    typed(about.facts, Facts, f"{file}: facts")
    if same["max_puzzles"] != about.puzzles:
        raise ValueError(f"{file}: puzzles is {about.puzzles}, but same.max_puzzles is {same['max_puzzles']}")
    return replace(about, same=same)


def _as_now(same: dict[str, Any], origin: str) -> dict[str, Any]:
    """What an older file says: PyTorch computes, its model has the defaults of newer keys, and a sentence begins with
    the backend."""
    known = typed(same, _Same, f"{origin}: same")
    now = {"arch": known.arch.model_dump(mode="json"), "backend": known.backend.split(", ")[0]}
    return {"engine": "torch"} | same | now


def describe(
    config: EvalConfig,
    settings: Settings,
    loaded: Loaded,
    arch: Arch,
    backend: Backend,
    puzzles: Puzzles,
    plan: Plan,
    devices: Devices,
) -> About:
    """What this evaluation is about."""
    data_path = config.dataset_data_path or loaded.data_path
    folder = located(data_path)
    metadata = (folder / config.split / "dataset.json").read_bytes()
    local = keys(EvalConfig, Role.LOCAL)  # `same` holds what they stand for
    asked = {name: value for name, value in config.model_dump(mode="json").items() if name not in local}
    same = {
        "halt_max_steps": settings.depths,
        "max_puzzles": len(plan.examples_N),
        "checkpoint": loaded.digest,
        "dataset": _fingerprint(metadata, puzzles, plan),
        "arch": arch.model_dump(mode="json"),
        "device": devices.kind,
        "backend": backend.name,
    }
    facts = {
        "checkpoint": str(loaded.origin),
        "step": loaded.step,
        "weights": "averaged (EMA)" if loaded.averaged else "raw",
        "notes": loaded.notes,
        "settings": config.model_dump(mode="json") | {"halt_max_steps": settings.depths},
        **({"examples": len(puzzles)} if config.per_puzzle else {}),
        "arch": arch.model_dump(mode="json"),
        "dataset": data_path,
        "device": devices.name,
        "backend": backend.why,
        "versions": versions(),
    }
    data = str(folder.resolve())
    return About(asked | same, len(plan.units), len(plan.examples_N), settings, facts, data)


def _fingerprint(metadata: bytes, puzzles: Puzzles, plan: Plan) -> str:
    """A hash of the puzzles that are evaluated: data sets built with two seeds may have the same metadata."""
    total = hashlib.sha256(metadata)
    for array in (puzzles.split.inputs, puzzles.split.labels):
        total.update(array[plan.examples_N].tobytes())
    return total.hexdigest()


def _difference(mine: dict[str, Any], other: dict[str, Any]) -> str | None:
    for key in other | mine:  # in their order: a setting before the data that follow from it
        a, b = other.get(key), mine.get(key)
        if a != b:
            if isinstance(a, dict) and isinstance(b, dict):
                return f"{key}.{_difference(b, a)}"
            return f"another {key}" if key in ("checkpoint", "dataset") else f"{key} is {a!r} there and {b!r} here"
    return None
