"""Sends a run's numbers to Weights & Biases. Nothing that goes wrong there ends a training: metrics.jsonl has all."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from config.command import printable
from config.schema import PretrainConfig

_MODES = ("online", "offline", "disabled")
_PATIENCE = {"WANDB_INIT_TIMEOUT": "30", "WANDB_FINISH_TIMEOUT": "120", "WANDB_FINISH_TIMEOUT_RAISES": "true"}
"""Seconds that W&B may wait for its server at the start and at the end of a run, where the user says nothing else."""


def wandb_mode(config: PretrainConfig) -> str:
    """What the configuration or the environment asks for: online, offline or disabled; auto if neither says it.

    Raises:
        ValueError: WANDB_MODE is something else.
    """
    if config.wandb_mode != "auto":
        return config.wandb_mode
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes"):
        return "disabled"
    mode = os.environ.get("WANDB_MODE") or "auto"
    mode = {"dryrun": "offline", "run": "online"}.get(mode, mode)
    if mode not in (*_MODES, "auto"):
        raise ValueError(f"WANDB_MODE should be online, offline or disabled, but it is {mode!r}")
    return mode


def _start(directory: Path, config: PretrainConfig, mode: str) -> Any:
    """A W&B run, or None. The installed wandb knows whether the user is logged in, and to which server."""
    if mode == "disabled":
        return None
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    import wandb

    if mode == "auto":
        usual = wandb.setup().settings.mode  # after `wandb offline`, for example, it is that
        mode = usual if usual in ("offline", "disabled") else "online" if wandb.login(prompt=False) else "disabled"
    if mode == "disabled":
        return None
    name = f"{config.run_name}-{directory.name}"
    return wandb.init(
        project=config.project_name,
        entity=config.entity,
        name=name,
        id=name,
        resume="allow" if mode == "online" else None,
        dir=directory,
        mode=mode,  # type: ignore[arg-type]
        config=config.model_dump(mode="json"),
    )


@contextmanager
def _or_without(otherwise: str) -> Iterator[None]:
    """Turns whatever W&B raises in the block into a line on stderr: what went wrong, and what happens now."""
    try:
        yield
    except Exception as error:  # of another program: it has many kinds of errors, and gets new ones
        why = " ".join(str(error).split())[:300] or type(error).__name__
        print(f"W&B cannot be used ({printable(why)}): {otherwise}", file=sys.stderr)
        with suppress(Exception):  # else the next run finds its id in use, and the end of the program is a traceback
            import wandb

            wandb.teardown()


class WandbLog:
    """The run's numbers on W&B: online, in a folder for `wandb sync`, or nowhere."""

    def __init__(self, directory: Path, config: PretrainConfig) -> None:
        self._run: Any = None
        for mode in dict.fromkeys([wandb_mode(config), "offline"]):
            with _or_without("only metrics.jsonl has the numbers" if mode == "offline" else "logging offline"):
                self._run = _start(directory, config, mode)
                return

    def write(self, step: int, values: dict[str, float]) -> None:
        """Logs the values of a step."""
        if self._run is not None:
            run, self._run = self._run, None
            with _or_without("from here on only metrics.jsonl has the numbers"):
                run.log(values, step=step)
                self._run = run

    def close(self) -> None:
        """Waits until W&B has all numbers, or gives up."""
        if self._run is not None:
            with _or_without("metrics.jsonl has all numbers, and `wandb sync` sends those of the run's folder"):
                self._run.finish()
