"""Writes a run's numbers: always to metrics.jsonl, and to W&B if you are logged in or ask for it."""

import json
import netrc
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from config.load import to_yaml
from config.schema import PretrainConfig
from runtime.files import claim, new_directory, write_whole
from runtime.run_log import METRICS, drop_after, to_line
from runtime.versions import versions


def new_run_directory(config: PretrainConfig) -> Path:
    """Makes the run's folder, checkpoint_path/run_name/<time>."""
    return new_directory(Path(config.checkpoint_path) / config.run_name / time.strftime("%Y%m%d-%H%M%S"))


def wandb_mode(config: PretrainConfig) -> Any:
    """online, offline or disabled. The configuration decides, then the environment, then whether you are logged in."""
    if config.wandb_mode != "auto":
        return config.wandb_mode
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes"):
        return "disabled"
    if mode := os.environ.get("WANDB_MODE"):
        mode = {"dryrun": "offline", "run": "online"}.get(mode, mode)
        if mode not in ("online", "offline", "disabled"):
            raise ValueError(f"WANDB_MODE should be online, offline or disabled, but it is {mode!r}")
        return mode
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return "online" if netrc.netrc().authenticators(host) else "disabled"
    except (OSError, netrc.NetrcParseError):
        return "disabled"


def _start_wandb(directory: Path, config: PretrainConfig, mode: Any) -> Any:
    """A W&B run. If the server cannot be reached, it is offline and a line says so."""
    import wandb

    name = f"{config.run_name}-{directory.name}"
    try:
        return wandb.init(
            project=config.project_name,
            entity=config.entity,
            name=name,
            id=name,
            resume="allow",
            dir=directory,
            mode=mode,
            config=config.model_dump(mode="json"),
        )
    except wandb.Error as error:
        if mode == "offline":
            raise ValueError(f"W&B does not start: {' '.join(str(error).split())}") from None
        print(f"W&B cannot be reached ({' '.join(str(error).split())}): logging offline", file=sys.stderr)
        return _start_wandb(directory, config, "offline")


class MetricsLog:
    """Writes the run's configuration and versions into its folder, then appends to metrics.jsonl and W&B.

    A run that goes on writes its configuration and versions anew, and drops lines after `step`.

    Raises:
        ValueError: another training writes into this folder.
    """

    def __init__(self, directory: Path, config: PretrainConfig, step: int) -> None:
        self.file = directory / METRICS
        self._lines = open(self.file, "a")
        claim(self._lines, f"another training goes on in {directory}: wait for it, or end it")
        write_whole(directory / "config.yaml", to_yaml(config))
        write_whole(directory / "versions.json", json.dumps(versions(), indent=1) + "\n")
        drop_after(self.file, step)
        mode = wandb_mode(config)
        self._wandb: Any = None if mode == "disabled" else _start_wandb(directory, config, mode)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Appends a line: the step and its values."""
        self._lines.write(to_line(step, values))
        self._lines.flush()
        if self._wandb is not None:
            self._wandb.log(values, step=step)

    def close(self) -> None:
        self._lines.close()
        if self._wandb is not None:
            self._wandb.finish()
