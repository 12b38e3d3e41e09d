"""Which run a command means: a new one, or one that goes on from a checkpoint."""

import sys
import time
from pathlib import Path

from config.load import going_on, load_pretrain, resume_config
from config.schema import PretrainConfig
from runtime import checkpoint
from runtime.distributed import World
from runtime.files import new_directory
from runtime.hub import is_address, newest_run
from runtime.run_log import METRICS, final_step
from training.trainer import Trainer


def configure(words: list[str]) -> PretrainConfig:
    """The configuration that a command asks for. A run that goes on has its own, with the command's changes."""
    words = [word.lstrip("+") if word.lstrip("+").startswith("resume=") else word for word in words]
    resumed = [word.removeprefix("resume=") for word in words if word.startswith("resume=")]
    if resumed and is_address(resumed[-1]):
        raise ValueError(
            f"resume={resumed[-1]}: a run goes on in a folder here; load_checkpoint={resumed[-1]} starts a new one"
        )
    if resumed and resumed[-1] not in ("null", ""):
        run = newest_run(Path(resumed[-1]))  # now, and not once more later
        config = resume_config(checkpoint.load(run, weights_only=True).config, words)
        return config.model_copy(update={"resume": str(run)})
    config = load_pretrain(words)
    return config if config.run_dir is None else from_last(config, config.run_dir)


def from_last(config: PretrainConfig, directory: str) -> PretrainConfig:
    """The configuration with which the run in a folder goes on from its last checkpoint, or begins if it has none."""
    if not (Path(directory) / "last.safetensors").is_file():
        return config if config.resume else config.model_copy(update={"run_dir": directory})
    config = config.model_copy(update={"resume": directory, "run_dir": None})
    return going_on(checkpoint.load(directory, weights_only=True).config, config)


def started_again(config: PretrainConfig, world: World) -> PretrainConfig:
    """The configuration of processes that torchrun has started in place of killed ones; of the first ones, as it is.

    They go on with the same run, and of max_seconds a part has passed.
    """
    began, run = world.remembered("began"), world.remembered("run")
    if began is None:
        world.remember("began", str(time.time()))
        return config
    if config.max_seconds is not None:
        left = config.max_seconds - (time.time() - float(began))
        config = config.model_copy(update={"max_seconds": max(1.0, left)})
    return config if run is None else from_last(config, run)


def run_directory(config: PretrainConfig) -> Path:
    """Makes the folder of a run that begins: run_dir, or else checkpoint_path/run_name/<time>.

    Raises:
        ValueError: run_dir holds something else than a run.
    """
    if config.run_dir is not None:
        directory = Path(config.run_dir)
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()) and not (directory / METRICS).is_file():
            raise ValueError(f"run_dir={directory} holds something else than a run: give a new folder")
        return directory
    return new_directory(Path(config.checkpoint_path) / config.run_name / time.strftime("%Y%m%d-%H%M%S"))


def resume(trainer: Trainer, file: Path) -> Path:
    """Puts a run back to the step of a checkpoint, and returns the run's folder.

    Raises:
        ValueError: the run has ended at a later step, or has gone on since, or the checkpoint does not fit or holds
            weights alone.
    """
    saved = checkpoint.load(file)
    if not saved.optimizer:
        raise ValueError(f"{file} holds only weights, so no run can go on from it: give load_checkpoint={file.parent}")
    ended = final_step(file.parent)
    if saved.step > trainer.total_steps and ended is not None and ended >= saved.step:
        raise ValueError(f"{file} is at step {saved.step} of {trainer.total_steps}: give more epochs or max_steps")
    newest = file.with_name("last.safetensors")
    if newest.is_file() and (step := checkpoint.load(newest, weights_only=True).step) > saved.step:
        raise ValueError(f"{newest} is at step {step}: resume from it, or copy {file.name} into a folder of its own")
    if not trainer.restore(saved, str(file)) and trainer.world.is_main:
        print(f"{file} holds no latents: every row starts anew with a new puzzle", file=sys.stderr)
    return file.parent


def is_complete(trainer: Trainer, directory: Path) -> bool:
    """Whether the run has made all its steps, and its last evaluation, which a stop may have cut off."""
    ended = final_step(directory)
    return trainer.step == trainer.total_steps and ended is not None and ended >= trainer.step
