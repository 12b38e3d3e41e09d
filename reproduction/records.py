"""The records in results/runs/: runs with their evaluations. Accuracies are shares, 0 to 1."""

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_serializer, field_validator

from config.fields import Role, keys
from config.json_file import read_json
from config.load import validate
from config.schema import EvalConfig, PretrainConfig

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "results" / "runs"

FROM_ARCH = keys(EvalConfig, Role.MODEL)
"""Settings of an evaluation that default to the model's own."""

STARTS_STD: float = EvalConfig.model_fields["different_init_reset_std"].default
"""Default std of random starts for models trained from stored starts."""


class Stored(BaseModel):
    """Part of a JSON file in results/. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Curve(Stored):
    """Columns by name, and the rows below them."""

    columns: list[str]
    rows: list[list[int | float | None]]


class Share(Stored):
    """A share of so many puzzles, with its standard error."""

    share: float
    error: float
    puzzles: int


class Group(Stored):
    """Accuracy on a group of puzzles; `evaluation.by_group` wrote it."""

    group: str
    puzzles: int
    exact_accuracy: Share | None = None
    majority: Share | None = None
    best_converged: Share | None = None


class Work(Stored):
    """The seconds that all processes and devices of an evaluation worked, taken together."""

    process_seconds: float
    device_seconds: float | None = None
    puzzles_per_process_second: float | None = None


class Evaluation(Stored):
    """One evaluation of a run's last step."""

    dataset: str
    puzzles: int
    step: int
    weights: str
    settings: EvalConfig
    device: str
    processes: int | None
    backend: str
    versions: dict[str, str]
    seconds: float | None
    work: Work
    metrics: dict[int, dict[str, int | float | None]]
    by: dict[str, dict[int, list[Group]]]

    @field_validator("settings", mode="before")
    @classmethod
    def _with_checkpoint(cls, settings: Any) -> Any:
        return {"checkpoint": "RUN_DIR"} | settings if isinstance(settings, dict) else settings

    @field_serializer("settings")
    def _without_checkpoint(self, settings: EvalConfig) -> dict[str, Any]:
        return settings.model_dump(mode="json", exclude={"checkpoint"}, exclude_unset=True)

    @property
    def depth(self) -> int:
        """The last depth."""
        return max(self.metrics)

    @property
    def float8(self) -> bool:
        """Whether the wide layers computed in 8 bits."""
        return self.settings.kernels == "float8"


class Record(Stored):
    """A run: how it was trained, and every evaluation of its end. `after` names the run that it went on from."""

    name: str
    after: str | None = None
    config: PretrainConfig
    seed: int
    commit: str
    hardware: str
    versions: dict[str, str]
    note: str | None
    steps: int
    seconds: float
    gpu_seconds: float
    training: Curve
    evaluations_on_the_way: Curve
    evaluations: list[Evaluation]

    @property
    def recipe(self) -> str:
        """The name of its configuration in config/train."""
        return self.config.run_name

    @property
    def own_settings(self) -> dict[str, Any]:
        """The settings of `FROM_ARCH` that the model was trained with; None for what it does not have."""
        arch = self.config.arch.model_dump()
        return {name: arch.get(name) for name in FROM_ARCH}

    @property
    def quick_evaluations(self) -> list[tuple[int, int, float]]:
        """(step, puzzles, share) of the evaluations on the way that have as many puzzles as the first one."""
        rows = [
            (int(step or 0), int(puzzles or 0), float(share or 0))
            for step, puzzles, share in self.evaluations_on_the_way.rows
        ]
        return [row for row in rows if row[1] == rows[0][1]]


def read_record(file: Path) -> Record:
    """The record in a file. Raises ValueError, in one sentence, if there is none."""
    return validate(Record, read_json(file, dict), file)


def read_records(folder: Path = RUNS) -> list[Record]:
    """All records in a folder, in the order of their names."""
    return [read_record(file) for file in sorted(folder.glob("*.json"))]


def to_text(record: Record) -> str:
    """A record as JSON, with a list of numbers on one line."""
    text = json.dumps(record.model_dump(mode="json", exclude_unset=True), indent=1)
    return re.sub(r"\[[^][{}\"]*\]", lambda numbers: " ".join(numbers[0].split()), text) + "\n"


def portable(config: PretrainConfig) -> PretrainConfig:
    """The configuration as another machine would use it: data in data/, and not how the run was sliced or watched."""
    values = config.model_dump()
    values["dataset"]["data_path"] = f"data/{Path(config.dataset.data_path).name}"
    values["load_checkpoint"] = config.load_checkpoint and Path(config.load_checkpoint).name
    for name in keys(PretrainConfig, Role.LOCAL):
        values[name] = PretrainConfig.model_fields[name].default
    return validate(PretrainConfig, values)


def chain(record: Record, records: Sequence[Record]) -> list[Record]:
    """A run, the run that it went on from, the run that this one went on from, and so on.

    Raises:
        ValueError: a run is not among `records`, or they go on from each other.
    """
    by_name, links = {other.name: other for other in records}, [record]
    while after := links[-1].after:
        if after not in by_name or after in [link.name for link in links]:
            why = "which is not recorded" if after not in by_name else "which went on from it"
            raise ValueError(f"{links[-1].name} went on from {after}, {why}")
        links.append(by_name[after])
    return links


def from_weights(record: Record, earlier: Record) -> bool:
    """Whether a run began anew from the weights of the earlier run, instead of resuming it."""
    config, before = record.config.model_dump(), earlier.config.model_dump()
    kept = all(config[name] == before[name] for name in (*keys(PretrainConfig, Role.FIXED), "load_checkpoint"))
    return config["load_checkpoint"] is not None and not (kept and record.steps > earlier.steps)


def spent_before(record: Record, records: Sequence[Record]) -> tuple[int, float]:
    """(steps, GPU seconds) that went into the weights that a run began from. A resumed run counts its own."""
    began = [before for after, before in pairwise(chain(record, records)) if from_weights(after, before)]
    return sum(before.steps for before in began), sum(before.gpu_seconds for before in began)
