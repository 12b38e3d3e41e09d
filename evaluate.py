"""Evaluate a checkpoint: python evaluate.py checkpoint=FILE [eval=NAME] [key=value ...] (see scripts/eval.sh)."""

import sys
import time
from contextlib import closing
from pathlib import Path

from config.load import load_eval
from config.schema import EvalConfig
from dataset.puzzles import Puzzles
from evaluation.merge import conclude
from evaluation.observers.arc import VotesByDepth
from evaluation.observers.maze import ShortestPaths
from evaluation.observers.per_puzzle import PerPuzzle
from evaluation.partial import Partial, append, describe
from evaluation.results import new_evaluation_directory
from evaluation.settings import settings_for
from evaluation.units import Observer, plan, run_units
from runtime import distributed
from runtime.command import computing
from runtime.distributed import World
from runtime.load import build_for_evaluation, load_everywhere


def run(config: EvalConfig, world: World) -> None:
    """One evaluation, or one shard of it, from checkpoint to table and files; goes on where there are parts of it."""
    loaded = load_everywhere(config.checkpoint, config.ema, world)
    data_path = config.dataset_data_path or loaded.data_path
    puzzles = Puzzles(data_path, config.split, world.device)
    arch, model, start, backend = build_for_evaluation(loaded, config, puzzles.shape, world.device)
    settings = settings_for(config, arch)
    limits = [config.max_puzzles, config.max_eval_steps and config.max_eval_steps * config.global_batch_size]
    cut = plan(settings, len(puzzles), min((limit for limit in limits if limit is not None), default=None))
    about = describe(config, settings, loaded, arch, backend.why, puzzles, cut)
    observers: dict[str, Observer] = {}
    if about["arc"]:
        observers["arc"] = VotesByDepth(data_path, puzzles, settings.depths)
    if about["maze"]:
        observers["maze"] = ShortestPaths(puzzles.split)
    if config.per_puzzle:
        observers["per_puzzle"] = PerPuzzle()

    started = time.perf_counter()
    eval_dir = config.eval_dir
    if not eval_dir and world.is_main:
        eval_dir = str(new_evaluation_directory(loaded.origin))
    directory = Path(world.from_main(eval_dir))
    partial, (shard, shards) = Partial(directory, made=not config.eval_dir), config.shard_of
    earlier = partial.begin(about, config.shard_of) if world.is_main else []
    there = world.from_main({part.unit for part in earlier})
    left = [unit for unit in cut.units[shard - 1 :: shards] if unit not in there]
    if world.is_main:
        notes = [*loaded.notes, *puzzles.notes(cut.examples_N), *partial.notes(len(there), len(cut.units))]
        print("".join(note + "\n" for note in notes), end="", file=sys.stderr)
    done = []
    mine = left[world.rank :: world.size]
    units = run_units(model, start, puzzles, settings, cut, mine, world.is_main, observers)
    with partial.append_to((shard, shards), world) as file, closing(units):  # which ends the progress bar
        for part in units:
            try:
                part.check()
            except ValueError:
                partial.abandon(config.shard_of)
                raise
            append(file, part)
            done.append(part)
    everyone = [part for parts in world.gather_objects(done) for part in parts]
    if not world.is_main:
        return
    if shards > 1:
        print(f"shard {config.shard} is done; with all: python -m evaluation.merge {directory} [OTHER_EVAL_DIR ...]")
        return
    seconds = time.perf_counter() - started
    conclude(directory, about, earlier + everyone, {"processes": world.size, "seconds": round(seconds, 2)})
    partial.remove()
    print(f"{seconds:.1f} s; everything, with all settings: {directory}")


@computing("give a smaller global_batch_size (and a new eval_dir)")
def main(words: list[str]) -> None:
    """The command line. `--check-only` validates the configuration and does no more."""
    config = load_eval([word for word in words if word != "--check-only"])
    if "--check-only" not in words:
        run(config, distributed.start(config.device))


if __name__ == "__main__":
    main(sys.argv[1:])
