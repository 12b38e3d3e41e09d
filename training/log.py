"""Writes a run's numbers: always to metrics.jsonl, and to W&B if you are logged in or ask for it."""

import json
from pathlib import Path

from config.load import to_yaml
from config.schema import PretrainConfig
from runtime.files import claim, open_to_write, write_whole
from runtime.run_log import METRICS, drop_after, to_line
from runtime.versions import versions
from training.wandb_log import WandbLog


class MetricsLog:
    """Writes the run's configuration and versions into its folder, then appends to metrics.jsonl and W&B.

    A run that goes on writes its configuration and versions anew, and drops lines after `step`.

    Raises:
        ValueError: another training writes into this folder.
    """

    def __init__(self, directory: Path, config: PretrainConfig, step: int) -> None:
        self.file = directory / METRICS
        self._lines = open_to_write(self.file, "a")
        claim(self._lines, f"another training goes on in {directory}: wait for it, or end it")
        write_whole(directory / "config.yaml", to_yaml(config))
        write_whole(directory / "versions.json", json.dumps(versions(), indent=1) + "\n")
        drop_after(self.file, step)
        self._wandb = WandbLog(directory, config)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Appends a line: the step and its values."""
        self._lines.write(to_line(step, values))
        self._lines.flush()
        self._wandb.write(step, values)

    def close(self) -> None:
        self._lines.close()
        self._wandb.close()
