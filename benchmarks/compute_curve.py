"""Measures one checkpoint's accuracy against test-time compute: plain, streaming, and with early exit.

python -m benchmarks.compute_curve CHECKPOINT [--data DIR] [--depth 64] [--breadth 8] [--agree 3] [--output DIR]

- plain: to depths 1, 2, 4, ... with all starts
- streaming: to the largest depth, but a trajectory leaves when sigmoid(q_halt) exceeds a threshold
- early exit: also drops a puzzle's later starts once `agree` have left with the same answer

Every point is a run of its own in this process, after a short run to warm up. NFE counts outer iterations a puzzle,
dropped starts included. Writes test_time_compute.json and .png.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from config.load import validate
from config.options import count
from config.schema import EvalConfig
from dataset.puzzles import Puzzles
from evaluation.drawing import pictures
from evaluation.engine import TorchEngine
from evaluation.halting import Halting
from evaluation.metrics import standard_error
from evaluation.selection import RULES
from evaluation.settings import Settings, settings_for
from evaluation.units import Plan, metrics_by_depth, run_units
from models.core import Start
from models.reasoner import Reasoner
from runtime import distributed
from runtime.command import computing
from runtime.files import write_whole
from runtime.load import build_for_evaluation, load_model
from runtime.versions import versions

Point = dict[str, Any]
KINDS = ("plain", "streaming", "early exit")


def measure(model: Reasoner, start: Start, data: Puzzles, settings: Settings, puzzles: int | None, rule: str) -> Point:
    """What one evaluation reached, and what it cost."""
    plan = Plan.of(settings, len(data), puzzles)
    parts = list(run_units(TorchEngine(model, start, data, settings), plan, plan.units))
    N = len(plan.examples_N)
    metrics = metrics_by_depth(parts, N, settings)[max(settings.depths)]
    accuracy = metrics[f"selection/{rule}/exact_accuracy" if settings.breadth > 1 else "all/exact_accuracy"]
    seconds = sum(part.seconds for part in parts)
    return {
        "depth": max(settings.depths),
        "halt_q": settings.halting.q if settings.halting else None,
        "accuracy": accuracy,
        "error": standard_error(accuracy, N),
        "nfe": metrics["nfe/mean"],
        "seconds": seconds,
        "device_seconds": sum(part.device_seconds for part in parts),
        "puzzles_per_second": N / seconds,
        "metrics": {name: None if math.isnan(value) else value for name, value in metrics.items()},
    }


def sweep(
    model: Reasoner,
    start: Start,
    data: Puzzles,
    base: Settings,
    puzzles: int | None,
    rule: str,
    agree: int,
    qs: list[float],
) -> dict[str, list[Point]]:
    """Measures and prints all points; returns them by kind."""
    depth = max(base.depths)
    depths = [2**i for i in range(depth.bit_length()) if 2**i < depth] + [depth]
    cases = [("plain", replace(base, depths=[d])) for d in depths]
    for q in qs:
        streaming = replace(base, depths=[depth], halting=Halting(q=q))
        cases.append(("streaming", streaming))
        if 1 < agree <= base.breadth:
            cases.append(("early exit", replace(streaming, agree=agree)))
    for warm in (replace(base, depths=[2]), replace(base, depths=[4], halting=Halting(q=0.5))):
        measure(model, start, data, warm, max(1, base.rows // base.breadth), rule)
    points: dict[str, list[Point]] = {kind: [] for kind in KINDS}
    heads = ("", "depth", "halt_q", "accuracy", "NFE", "p95", "forced", "seconds")
    print(_line(*heads))
    for kind, settings in cases:
        point = measure(model, start, data, settings, puzzles, rule)
        points[kind].append(point)
        print(
            _line(
                kind,
                point["depth"],
                "-" if point["halt_q"] is None else f"{point['halt_q']:g}",
                f"{point['accuracy']:.2%} ± {point['error']:.2%}",
                f"{point['nfe']:.1f}",
                f"{point['metrics']['nfe/p95']:.0f}",
                f"{point['metrics'].get('all/forced', 1.0):.1%}",
                f"{point['seconds']:.2f}",
            ),
            flush=True,
        )
    return points


def _line(*cells: object) -> str:
    return "  ".join(str(cell).rjust(width) for cell, width in zip(cells, (10, 5, 6, 16, 8, 6, 6, 8), strict=True))


def verdict(points: dict[str, list[Point]]) -> list[str]:
    """Names the cheapest point of each kind that is as accurate as the deepest plain one, within the binomial error."""
    plain = points["plain"][-1]
    sentences = [f"as accurate as plain at depth {plain['depth']}, within the binomial error, with the fewest NFE:"]
    for kind in KINDS:
        enough = [
            p for p in points[kind] if p["accuracy"] >= plain["accuracy"] - math.hypot(p["error"], plain["error"])
        ]
        best = min(enough, key=lambda point: point["nfe"], default=None)
        if best is None:
            sentences.append(f"  {kind}: none" if points[kind] else f"  {kind}: not run")
            continue
        which = f"depth {best['depth']}" if best["halt_q"] is None else f"halt_q {best['halt_q']:g}"
        nfe, seconds = best["nfe"] / plain["nfe"], best["seconds"] / plain["seconds"]
        sentences.append(f"  {kind}, {which}: {nfe:.1%} of its NFE, {seconds:.1%} of its time")
    return sentences


def draw(points: dict[str, list[Point]], title: str, file: Path) -> None:
    """Draws accuracy against NFE and against seconds."""
    from matplotlib.ticker import PercentFormatter

    figure = pictures.new_figure(11, 4.4)
    both = figure.subplots(1, 2, sharey=True)
    colours = (pictures.BLUE, pictures.VERMILLION, pictures.GREEN)
    for axes, key, label in zip(
        both, ("nfe", "seconds"), ("NFE: outer iterations a puzzle", "seconds for all puzzles"), strict=True
    ):
        for kind, colour, marker in zip(KINDS, colours, "osD", strict=True):
            if points[kind]:
                x, y, error = ([point[name] for point in points[kind]] for name in (key, "accuracy", "error"))
                style = {"color": colour, "marker": marker, "markersize": 5, "capsize": 3}
                axes.errorbar(x, y, yerr=error, label=kind, **style)
        axes.set_xlabel(label)
        pictures.log_scale(axes, "x")
        axes.grid(alpha=0.3)
    both[0].set_ylabel("exact accuracy (bars: binomial error)")
    both[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    both[0].legend(loc="lower right")
    figure.suptitle(title)
    figure.savefig(file, dpi=150)


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Accuracy against test-time compute.")
    parser.add_argument("checkpoint")
    parser.add_argument("--data", help="the data set; by default the one that the model was trained on")
    parser.add_argument("--depth", type=count, default=64, help="outer iterations at most (%(default)s)")
    parser.add_argument("--breadth", type=count, default=8, help="random starts a puzzle (%(default)s)")
    agree = "starts with the same answer that end a puzzle early (%(default)s)"
    parser.add_argument("--agree", type=count, default=3, help=agree)
    halt_q = "thresholds of sigmoid(q_halt) for streaming (%(default)s)"
    parser.add_argument("--halt-q", type=float, nargs="+", default=[0.5, 0.9, 0.99], help=halt_q)
    parser.add_argument("--puzzles", type=count, help="so many, evenly spread")
    parser.add_argument("--rows", type=count, default=768, help="trajectories at a time")
    rules = [rule for rule in RULES if rule != "majority_top_k"]
    parser.add_argument("--rule", choices=rules, default="majority", help="which start's answer counts (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder of the .json and .png (%(default)s)")
    return parser.parse_args(words)


@computing("give fewer --rows")
def main(words: Sequence[str]) -> None:
    """The command line."""
    run(_arguments(words))


def run(arguments: argparse.Namespace) -> None:
    """Measures, prints, and writes both files."""
    if arguments.output.exists() and not arguments.output.is_dir():
        raise ValueError(f"--output should be a folder, but {arguments.output} is a file")
    world = distributed.start("auto")
    values = {
        "checkpoint": arguments.checkpoint,
        "halt_max_steps": [arguments.depth],
        "different_init": arguments.breadth,
        "global_batch_size": arguments.rows,
    }
    config = validate(EvalConfig, values)
    streaming = [validate(EvalConfig, values | {"streaming": True, "halt_q": q}) for q in arguments.halt_q]
    loaded = load_model(config.checkpoint)
    data = Puzzles(arguments.data or loaded.data_path, "test", world.device)
    arch, model, start, backend = build_for_evaluation(loaded, streaming[0], data.shape, world.device)
    settings = settings_for(config, arch)
    arguments.output.mkdir(parents=True, exist_ok=True)
    points = sweep(model, start, data, settings, arguments.puzzles, arguments.rule, arguments.agree, arguments.halt_q)
    sentences = verdict(points)
    print(*sentences, sep="\n")
    device = torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else "cpu"
    puzzles = int(points["plain"][0]["metrics"]["puzzles"])
    facts = {
        "command": vars(arguments) | {"output": str(arguments.output)},
        "device": device,
        "backend": backend.why,
        "versions": versions(),
        "puzzles": puzzles,
        "verdict": sentences,
    }
    write_whole(arguments.output / "test_time_compute.json", json.dumps(facts | {"points": points}, indent=1) + "\n")
    title = f"{puzzles} puzzles, {arguments.breadth} starts, up to {arguments.depth} iterations, on {device}"
    draw(points, title, arguments.output / "test_time_compute.png")
    print(f"wrote {arguments.output / 'test_time_compute.json'} and .png")


if __name__ == "__main__":
    main(sys.argv[1:])
