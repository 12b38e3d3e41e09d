"""An evaluation on disk while it is under way: what is done survives a kill, and several jobs can share the work.

EVAL_DIR/partial/ holds about.json, which says what is evaluated and how, and units*.jsonl, a line for each unit
that is done. Every process appends to a file of its own. A line that a kill cut short counts as not there.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch
from pydantic import TypeAdapter, ValidationError

from config.schema import Arch, EvalConfig
from dataset.puzzles import Puzzles
from evaluation.observers.maze import holds_mazes
from evaluation.settings import Settings
from evaluation.units import Done, Plan
from runtime.distributed import World
from runtime.files import claim
from runtime.load import Loaded
from runtime.versions import versions

_FREE = {"checkpoint", "dataset_data_path", "eval_dir", "shard", "device", "max_eval_steps"}
"""Keys that may differ between parts of an evaluation: they change no number, or what they stand for is compared."""

_DONE = TypeAdapter(Done)


def _fingerprint(metadata: bytes, puzzles: Puzzles, cut: Plan) -> str:
    """Of the puzzles that are evaluated: sets built with two seeds may have the same metadata."""
    total = hashlib.sha256(metadata)
    for array in (puzzles.split.inputs, puzzles.split.labels):
        total.update(array[cut.examples_N].tobytes())
    return total.hexdigest()


def describe(
    config: EvalConfig, settings: Settings, loaded: Loaded, arch: Arch, backend: str, puzzles: Puzzles, cut: Plan
) -> dict[str, Any]:
    """What is evaluated and how. Parts fit together where `same` is equal."""
    data_path = config.dataset_data_path or loaded.data_path
    metadata = (Path(data_path) / config.split / "dataset.json").read_bytes()
    on_gpu = puzzles.device.type == "cuda"
    asked = {name: value for name, value in config.model_dump(mode="json").items() if name not in _FREE}
    return {
        "same": asked
        | {
            "halt_max_steps": settings.depths,
            "max_puzzles": len(cut.examples_N),
            "checkpoint": loaded.digest,
            "dataset": _fingerprint(metadata, puzzles, cut),
            "arch": arch.model_dump(mode="json"),
            "device": puzzles.device.type,
            "backend": backend,
        },
        "units": len(cut.units),
        "puzzles": len(cut.examples_N),
        "settings": asdict(settings),
        "arc": config.split == "test" and (Path(data_path) / "test_puzzles.json").is_file(),
        "maze": holds_mazes(puzzles.split),
        "data": str(Path(data_path).resolve()),
        "facts": {
            "checkpoint": str(loaded.origin),
            "step": loaded.step,
            "weights": "averaged (EMA)" if loaded.averaged else "raw",
            "notes": loaded.notes,
            "settings": config.model_dump(mode="json") | {"halt_max_steps": settings.depths},
            **({"examples": len(puzzles)} if config.per_puzzle else {}),
            "arch": arch.model_dump(mode="json"),
            "dataset": data_path,
            "device": torch.cuda.get_device_name(puzzles.device) if on_gpu else "cpu",
            "backend": backend,
            "versions": versions(),
        },
    }


def _differing(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """The first key whose values differ, with both values."""
    for key in one | other:  # in their order: a setting before the data that follow from it
        if one.get(key) != other.get(key):
            a, b = one.get(key), other.get(key)
            if isinstance(a, dict) and isinstance(b, dict):
                return f"{key}.{_differing(a, b)}"
            return f"another {key}" if key in ("checkpoint", "dataset") else f"{key} is {a!r} there and {b!r} here"
    return None


def refuse_other(about: dict[str, Any], there: dict[str, Any], directory: Path) -> None:
    """Raises ValueError where the parts in `directory`, which say `there`, are of another evaluation than `about`."""
    difference = _differing(there["same"], about["same"])
    if difference is not None:
        raise ValueError(f"{directory} holds parts of a different evaluation ({difference}): give another eval_dir")


def _line(done: Done) -> str:
    tallies = {str(depth): tally._asdict() for depth, tally in done.tallies.items()}
    return json.dumps(done._asdict() | {"tallies": tallies})


def _lock(shard: tuple[int, int]) -> str:
    return f"shard{shard[0]}of{shard[1]}.lock"


class Partial:
    """The partial results below an evaluation's folder; `made` says that this was made for them."""

    def __init__(self, directory: Path, made: bool = False) -> None:
        self.directory, self._folder, self._made = directory, directory / "partial", made

    def about(self) -> dict[str, Any] | None:
        """What the parts are parts of; None if there are none. ValueError where that cannot be read."""
        file = self._folder / "about.json"
        if not file.is_file():
            return None
        try:
            found = json.loads(file.read_bytes())
        except ValueError:
            found = None
        if not isinstance(found, dict) or "same" not in found:
            raise ValueError(f"{file} is damaged: remove {self._folder}, or give another eval_dir")
        return found

    def begin(self, about: dict[str, Any], shard: tuple[int, int]) -> list[Done]:
        """Starts, or goes on; returns what is done.

        Raises:
            ValueError: the parts there are of another evaluation, or another job is at work on the same shard.
        """
        there = self.about()
        if there is not None:
            refuse_other(about, there, self.directory)
        self._made |= not self.directory.exists()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._claim(shard)
        if there is not None:
            return self.done()
        unfinished = self._folder / f".about.{os.getpid()}.unfinished"
        unfinished.write_text(json.dumps(about, indent=1) + "\n")
        os.replace(unfinished, self._folder / "about.json")
        return []

    def _claim(self, shard: tuple[int, int]) -> None:
        """Keeps other jobs from this shard until this object, or the process, is gone."""
        self._claimed = open(self._folder / _lock(shard), "w")
        what = f"shard {shard[0]}/{shard[1]}" if shard[1] > 1 else "the same evaluation"
        claim(self._claimed, f"another job is at work on {what} in {self.directory}: wait, or give another eval_dir")

    def done(self) -> list[Done]:
        """The units that are done, in order."""
        found: dict[int, Done] = {}
        for file in sorted(self._folder.glob("units*.jsonl")):
            for done in _read(file):
                found[done.unit] = done
        return [found[unit] for unit in sorted(found)]

    def notes(self, done: int, units: int) -> list[str]:
        """What to say at the beginning."""
        where = f"what is done is kept in {self.directory}; with eval_dir={self.directory} a killed evaluation goes on"
        return [f"{done} of {units} units were done before" if done else where] if units > 1 else []

    def append_to(self, shard: tuple[int, int], world: World) -> IO[str]:
        """The file that this process appends to."""
        name = f"units_shard{shard[0]}of{shard[1]}_process{world.rank}of{world.size}.jsonl"
        file = open(self._folder / name, "a+")
        file.write("\n")  # ends a line that a kill cut short
        return file

    def remove(self) -> None:
        """Removes the parts."""
        shutil.rmtree(self._folder)

    def abandon(self, shard: tuple[int, int]) -> None:
        """Leaves nothing behind, unless a unit is done or another shard's job has begun. Any process may call it."""
        others = [file for file in self._folder.glob("shard*.lock") if file.name != _lock(shard)]
        if others or self.done():
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._made:
            with suppress(OSError):  # something else is in it
                self.directory.rmdir()


def append(file: IO[str], done: Done) -> None:
    """Writes a unit, and sees it to the disk."""
    file.write(_line(done) + "\n")
    file.flush()
    os.fsync(file.fileno())


def _read(file: Path) -> Iterator[Done]:
    for line in file.read_bytes().splitlines():
        try:
            yield _DONE.validate_json(line)
        except ValidationError:
            pass  # empty, or cut short
