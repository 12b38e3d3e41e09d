"""Train a reasoner: python pretrain.py train=NAME [key=value ...] (scripts/train.sh does this for you)."""

import sys
from collections.abc import Callable
from pathlib import Path

from config.command import printable
from config.environment import whole_number
from config.schema import PretrainConfig
from dataset.puzzles import TrainingBatches, train_and_test
from evaluation.settings import Settings
from evaluation.units import evaluate
from models import backend
from models.build import build, place
from runtime import checkpoint, distributed
from runtime.command import computing
from runtime.distributed import World
from runtime.load import begin_from, load_model
from runtime.run_log import write_final
from training.begin import configure, is_complete, resume, run_directory, started_again
from training.loop import Stopped, train
from training.trainer import Trainer, seed_step
from training.wandb_log import wandb_mode


def run(config: PretrainConfig, world: World) -> None:
    """One training run, from configuration to final evaluation."""
    config = started_again(config, world)
    config.rows_per_rank(world.size)  # raises before any work if the batch cannot be shared out
    train_puzzles, test_puzzles = train_and_test(config, world.device)
    seed_step(config.seed, 0, 0)
    chosen = backend.choose(config, config.arch, world.device)
    model = build(config.arch, train_puzzles.shape, chosen)
    if config.load_checkpoint is not None and config.resume is None:
        notes = begin_from(model, load_model(config.load_checkpoint))
        for note in notes if world.is_main else ():
            print(f"note: {printable(note)}", file=sys.stderr)
    place(model, chosen, world.device)
    share = (world.rank, world.size)
    batches = TrainingBatches(train_puzzles, config.global_batch_size, config.seed, share, config.join_epochs)
    trainer = Trainer(config, model, batches, world, chosen.graphs)

    if config.resume is None:
        directory = Path(world.from_main(str(run_directory(config)) if world.is_main else None))
    else:
        directory = resume(trainer, checkpoint.resolve(config.resume))
    if world.is_main:
        world.remember("run", str(directory))
        print(f"{trainer.summary()}, with {chosen.why}; everything goes to {directory}", file=sys.stderr)
    if config.resume is not None and is_complete(trainer, directory):
        if world.is_main:
            print("the run is complete: it goes on with more epochs or max_steps", file=sys.stderr)
            print(f"done: {directory}")
        return

    arch, rows = config.arch, config.global_batch_size
    settings = Settings(
        [arch.halt_max_steps], rows=rows, loss_type=arch.loss.loss_type, learned_halting=arch.learned_halting
    )

    def on_test(puzzles: int | None, between: Callable[[], None]) -> dict[str, float]:
        [metrics] = evaluate(model, test_puzzles, settings, world, puzzles, between=between).values()
        return metrics

    try:
        final = train(trainer, directory, on_test, len(test_puzzles))
    except Stopped:
        if world.is_first_here:
            print(f"stopped at step {trainer.step}; go on with resume={directory}", file=sys.stderr)
        distributed.wait_for_all()
        raise
    if world.is_main:
        write_final(directory, trainer.step, final)
        print(f"done: {directory}")


@computing("raise gradient_accumulation_steps (same result), or make arch smaller")
def main(words: list[str]) -> None:
    """The command line. `--check-only` validates the configuration and does no more."""
    config = configure([word for word in words if word != "--check-only"])
    wandb_mode(config)  # the environment may have it wrong
    if "--check-only" in words:
        config.rows_per_rank(whole_number("NPROC_PER_NODE", 1, 1) * whole_number("NNODES", 1, 1))
        return
    run(config, distributed.start(config.device))


if __name__ == "__main__":
    main(sys.argv[1:])
