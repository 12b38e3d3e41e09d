"""Where a run's numbers go: metrics.jsonl always, W&B where logged in or asked for."""

import json
import netrc
import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from config.load import to_yaml
from config.schema import PretrainConfig

ROOT = Path(__file__).resolve().parent.parent


def versions() -> dict[str, str]:
    """Python, the packages that numbers depend on, and this repository's commit."""
    found = {"python": platform.python_version()}
    for package in ("torch", "numpy", "triton", "hydra-core", "pydantic"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    try:
        git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        found["commit"] = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found["commit"] = "unknown"
    return found


def new_run_directory(config: PretrainConfig) -> Path:
    """checkpoint_path/run_name/<time>, made new, with the resolved configuration and versions in it."""
    base = Path(config.checkpoint_path) / config.run_name / time.strftime("%Y%m%d-%H%M%S")
    directory, n = base, 1
    while True:
        try:
            directory.mkdir(parents=True)
            break
        except FileExistsError:
            n += 1
            directory = base.with_name(f"{base.name}-{n}")
    (directory / "config.yaml").write_text(to_yaml(config))
    (directory / "versions.json").write_text(json.dumps(versions(), indent=1) + "\n")
    return directory


def wandb_mode(config: PretrainConfig) -> Any:
    """online, offline or disabled: what the configuration, the environment or a login asks for, in this order."""
    if config.wandb_mode != "auto":
        return config.wandb_mode
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes"):
        return "disabled"
    if mode := os.environ.get("WANDB_MODE"):
        return "offline" if mode == "dryrun" else mode
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return "online" if netrc.netrc().authenticators(host) else "disabled"
    except (OSError, netrc.NetrcParseError):
        return "disabled"


class MetricsLog:
    """Appends to metrics.jsonl and W&B. On resuming, lines after `step` are dropped first."""

    def __init__(self, directory: Path, config: PretrainConfig, step: int) -> None:
        self.file = directory / "metrics.jsonl"
        if self.file.exists():
            lines = self.file.read_text().splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
            self.file.write_text("".join(line + "\n" for line in kept))
        self._wandb: Any = None
        mode = wandb_mode(config)
        if mode != "disabled":
            import wandb

            self._wandb = wandb.init(
                project=config.project_name,
                entity=config.entity,
                name=f"{config.run_name}-{directory.name}",
                id=f"{config.run_name}-{directory.name}",
                resume="allow",
                dir=directory,
                mode=mode,
                config=config.model_dump(mode="json"),
            )

    def write(self, step: int, values: dict[str, float]) -> None:
        """One line: the step and its values."""
        with open(self.file, "a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._wandb is not None:
            self._wandb.log(values, step=step)

    def close(self) -> None:
        if self._wandb is not None:
            self._wandb.finish()
