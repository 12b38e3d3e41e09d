"""Evaluate a checkpoint: python evaluate.py checkpoint=FILE [eval=NAME] [key=value ...] (see scripts/eval.sh)."""

import sys
import time
from pathlib import Path

import torch

from config.load import load_eval
from config.schema import EvalConfig
from dataset.puzzles import Puzzles
from evaluation import report
from evaluation.arc import VotesByDepth
from evaluation.evaluate import Settings, evaluate
from evaluation.load import build_for_evaluation, load_model
from models import compile_networks
from training import distributed
from training.distributed import World
from training.logging import versions


def run(config: EvalConfig, world: World) -> None:
    """One evaluation, from checkpoint to table and files."""
    loaded = load_model(config.checkpoint, config.ema)
    data_path = config.dataset_data_path or loaded.data_path
    puzzles = Puzzles(data_path, config.split, world.device)
    arch, model = build_for_evaluation(loaded, config, puzzles.task)
    model.to(world.device)
    compile_networks(model, config.compile, world.device)
    settings = Settings(
        depths=sorted(set(config.halt_max_steps or [arch.halt_max_steps])),
        breadth=config.different_init,
        top_k=config.convergence_top_k,
        window=config.convergence_window,
        rows=config.global_batch_size,
        seed=config.seed,
        perturb_std=config.perturb_std,
        loss_type=arch.loss.loss_type,
    )
    limits = [config.max_puzzles, config.max_eval_steps and config.max_eval_steps * config.global_batch_size]
    limit = min((limit for limit in limits if limit is not None), default=None)
    directory = Path(config.eval_dir) if config.eval_dir else report.default_directory(loaded.origin)
    if world.is_main:
        directory.mkdir(parents=True, exist_ok=True)
        print(*loaded.notes, sep="\n", end="\n" if loaded.notes else "", file=sys.stderr)
    is_arc = config.split == "test" and (Path(data_path) / "test_puzzles.json").is_file()
    votes = VotesByDepth(data_path, puzzles, settings.depths) if is_arc else None
    started = time.perf_counter()
    metrics = evaluate(model, puzzles, settings, world, limit, True, votes.observe if votes else None)
    voted = votes.merged(world) if votes else {}
    if not world.is_main:
        return
    for depth, at_depth in voted.items():
        metrics[depth] |= at_depth.metrics()
    facts = {
        "checkpoint": str(loaded.origin),
        "step": loaded.step,
        "weights": "averaged (EMA)" if loaded.averaged else "raw",
        "notes": loaded.notes,
        "settings": config.model_dump(mode="json") | {"halt_max_steps": settings.depths},
        "arch": arch.model_dump(mode="json"),
        "dataset": data_path,
        "processes": world.size,
        "device": torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else "cpu",
        "seconds": round(time.perf_counter() - started, 2),
        "versions": versions(),
    }
    print(report.table(metrics))
    report.write(directory, facts, metrics)
    if voted:
        voted[max(voted)].write_submission(directory / "submission.json")
    print(f"{facts['seconds']:.1f} s; everything, with all settings: {directory}")


def main(words: list[str]) -> int:
    """Exit code: 0, 1 for a user's mistake, 130 for Ctrl-C. `--check-only` validates the configuration and no more."""
    try:
        config = load_eval([word for word in words if word != "--check-only"])
        if "--check-only" in words:
            return 0
        run(config, distributed.start(config.device))
        distributed.wait_for_all()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except torch.cuda.OutOfMemoryError:
        print("error: out of GPU memory; lower global_batch_size", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        distributed.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
