"""Evaluate a checkpoint: python evaluate.py checkpoint=FILE [eval=NAME] [key=value ...] (see scripts/eval.sh)."""

import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from config.load import load_eval
from config.schema import EvalConfig
from dataset.layout import located
from dataset.puzzles import Puzzles
from evaluation.about import describe
from evaluation.engine import Engine, TorchEngine
from evaluation.merge import conclude, show
from evaluation.observers import observers_for
from evaluation.partial import Partial
from evaluation.results import new_evaluation_directory
from evaluation.settings import Settings, most_puzzles, settings_for
from evaluation.units import Part, Plan, run_units
from runtime import distributed
from runtime.command import computing
from runtime.distributed import World
from runtime.hub import results_beside
from runtime.load import Evaluable, build_for_evaluation, load_everywhere, require_kind


def run(config: EvalConfig, world: World) -> None:
    """One evaluation, or one shard of it, from checkpoint to table and files. Goes on if parts of it are on disk."""
    loaded = load_everywhere(config.checkpoint, config.ema, world)
    data = located(config.dataset_data_path or loaded.data_path)
    puzzles = Puzzles(data, config.split, world.device)
    require_kind(loaded, puzzles.split)
    evaluable = build_for_evaluation(loaded, config, puzzles.shape, world.device)
    settings = settings_for(config, evaluable.arch)
    engine = engine_for(config, evaluable, puzzles, settings)
    plan = Plan.of(settings, len(puzzles), most_puzzles(config))
    about = describe(config, settings, loaded, evaluable.arch, evaluable.backend, puzzles, plan, engine.devices)
    observers = observers_for(config, data, puzzles)

    def run_some(units: Sequence[int]) -> Generator[Part, None, None]:
        return run_units(engine, plan, units, world.is_main, observers)

    started = time.perf_counter()
    given = config.eval_dir or world.remembered("evaluation")  # torchrun may have started its processes again
    if not given and world.is_main:
        given = str(new_evaluation_directory(results_beside(config.checkpoint, loaded.origin)))
    directory = Path(world.from_main(given))
    if world.is_main:
        world.remember("evaluation", str(directory))
    partial = Partial(directory, config.shard_of, made=not config.eval_dir)
    if world.from_main(world.is_main and about.is_finished(directory) and not partial.has(about)):
        if world.is_main:
            show(directory)
            print(f"the evaluation is complete; everything, with all settings: {directory}")
        return
    parts = partial.complete(about, world, run_some, [*loaded.notes, *puzzles.notes(plan.examples_N)])
    if not world.is_main:
        return
    if config.shard_of[1] > 1:
        print(f"shard {config.shard} is done; with all: python -m evaluation.merge {directory} [OTHER_EVAL_DIR ...]")
        return
    seconds = time.perf_counter() - started
    conclude(directory, about, parts, world.size, round(seconds, 2))
    partial.remove()
    print(f"{seconds:.1f} s; everything, with all settings: {directory}")


def engine_for(config: EvalConfig, evaluable: Evaluable, puzzles: Puzzles, settings: Settings) -> Engine:
    """What runs the trajectories."""
    if config.engine == "torch":
        return TorchEngine(evaluable.model, evaluable.start, puzzles, settings)
    from xla import Evaluator  # needs jax
    from xla.hosts import devices_of

    return Evaluator(evaluable, puzzles, settings, devices_of(config.device))


def start(config: EvalConfig) -> World:
    """Joins the other processes of this evaluation."""
    if config.engine == "torch":
        return distributed.start(config.device)
    try:
        from xla import hosts
    except ModuleNotFoundError as error:
        raise ValueError(str(error)) from None
    return hosts.start()


@computing("give a smaller global_batch_size (and a new eval_dir)")
def main(words: list[str]) -> None:
    """The command line. `--check-only` validates the configuration and does no more."""
    config = load_eval([word for word in words if word != "--check-only"])
    if "--check-only" not in words:
        run(config, start(config))


if __name__ == "__main__":
    main(sys.argv[1:])
