"""Measures training and evaluation on 1, 2, 4 and 8 devices: python -m benchmarks.scaling [CONFIG ...]

Each config runs twice on every number of devices: with `--rows` in all (strong scaling), and with `--rows` a device
(weak scaling). PyTorch's cases are those of benchmarks.speed; evaluation by XLA, where jax is installed, is that of
benchmarks.xla. `--draw FILE` only draws what an earlier call wrote.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks import speed
from config.command import unwinding
from config.json_file import read_json
from config.options import count
from evaluation.drawing import pictures
from runtime.command import computing
from runtime.files import require_place, write_whole
from runtime.versions import versions

GPU = ("eqr_sudoku", "eqr_sudoku_published", "eqr_maze_unique")
CPU = ("quickstart",)
"""The configs to measure if the command names none."""


def sizes(rows: int, processes: int) -> list[int]:
    """The numbers of rows, all devices together: as many in all as on one device, and as many on each."""
    return list(dict.fromkeys((rows, rows * processes)))


def case(name: str, rows: int, processes: int, device: str, ceiling: float) -> dict[str, Any]:
    """One line of the table."""
    how = "kernels" if torch.cuda.is_available() else "plain"
    times = speed.case(name, how, rows, processes, ceiling)
    facts = {"config": name, "engine": "torch", "device": device, "processes": processes, "rows": rows}
    return (
        facts | {key: times[key] for key in ("training ms", "iteration ms", "GiB")} | {"commit": versions()["commit"]}
    )


def xla_case(name: str, rows: int, processes: int, device: str) -> dict[str, Any]:
    """An evaluation iteration by XLA, in a process of its own. Without GPUs, JAX makes devices of the CPU's cores."""
    flags = [os.environ.get("XLA_FLAGS", ""), f"--xla_force_host_platform_device_count={processes}"]
    words = [name, "--engines", "xla", "--rows", str(rows), "--devices", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.xla", *words, "--output", folder]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"XLA_FLAGS": " ".join(flags)})
        if done.returncode:
            raise ChildProcessError(f"benchmarks.xla {' '.join(words)}: {done.stderr[-1000:]}")
        [times] = read_json(Path(folder) / "xla.json", dict)["cases"]
    if "failed" in times:
        raise ChildProcessError(f"benchmarks.xla {' '.join(words)}: {times['failed']}")
    facts = {"config": name, "engine": "xla", "device": device, "processes": processes, "rows": rows}
    return facts | {"training ms": None, "iteration ms": times["iteration ms"], "commit": versions()["commit"]}


def speedups(cases: Sequence[Mapping[str, Any]], work: str) -> dict[tuple[str, str, str], dict[int, float]]:
    """Samples a second on n devices, relative to one, by (config, engine, "in all" or "a device") and n.

    Args:
        cases: lines of the table, of one kind of device.
        work: "training ms" or "iteration ms".
    """
    found: dict[tuple[str, str, str], dict[int, float]] = {}
    ones = {(one["config"], one["engine"], one["commit"]): one for one in cases if one["processes"] == 1}
    for line in cases:
        one = ones.get((line["config"], line["engine"], line["commit"]))
        if one is None or one[work] is None:
            continue
        speedup = line["rows"] / line[work] / (one["rows"] / one[work])
        for kind, rows in (("in all", one["rows"]), ("a device", one["rows"] * line["processes"])):
            if line["rows"] == rows:
                found.setdefault((line["config"], line["engine"], kind), {})[line["processes"]] = speedup
    return found


def draw(cases: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draws samples a second against devices, with the ideal line: training and evaluation side by side."""
    with pictures.style():
        figure = pictures.new_figure(10, 4.2)
        for axes, (work, title) in zip(
            figure.subplots(1, 2),
            (("training ms", "a training step"), ("iteration ms", "an evaluation iteration")),
            strict=True,
        ):
            lines = speedups(cases, work)
            devices = sorted({number for line in lines.values() for number in line} or {1})
            axes.plot(devices, devices, color="gray", linestyle=":", label="ideal")
            for place, ((config, engine, kind), line) in enumerate(lines.items()):
                marker = pictures.MARKERS[place % len(pictures.MARKERS)]
                axes.plot(
                    list(line), list(line.values()), marker=marker, label=f"{config}, {engine}, equal rows {kind}"
                )
            axes.set(xlabel="devices", ylabel="samples a second, times one device", title=title, xticks=devices)
            axes.legend(fontsize="small")
        figure.savefig(file)


@computing("give fewer --rows")
@unwinding()
def main(words: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Training and evaluation on several devices.")
    parser.add_argument("configs", nargs="*")
    parser.add_argument("--devices", type=count, nargs="+", help="by default 1, 2, 4 and 8, as far as there are GPUs")
    parser.add_argument("--rows", type=count, help="768; on a CPU 64")
    parser.add_argument("--output", type=Path, default=Path("scaling.json"), help="%(default)s")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="only draw what --output has")
    given = parser.parse_args(words)
    if given.draw:
        draw(read_json(given.output, dict)["cases"], given.draw)
        return
    require_place(given.output, ".json", "--output ")
    gpus = torch.cuda.device_count()
    device = torch.cuda.get_device_name() if gpus else "CPU process"
    numbers = given.devices or [number for number in (1, 2, 4, 8) if number <= (gpus or 2)]
    if gpus and max(numbers) > gpus:
        raise ValueError(f"--devices should be at most {gpus}, the number of GPUs here, but one is {max(numbers)}")
    ceiling = speed.ceilings()["TFLOP/s"]
    cases: list[dict[str, Any]] = []
    for name in given.configs or (GPU if gpus else CPU):
        for processes in numbers:
            for rows in sizes(given.rows or (768 if gpus else 64), processes):
                new = [case(name, rows, processes, device, ceiling)]
                new += [xla_case(name, rows, processes, device)] if find_spec("jax") else []
                cases += new
                write_whole(given.output, json.dumps({"cases": cases}, indent=1) + "\n")
                for line in new:
                    step = f"{line['training ms']:.1f} ms a step, " if line["training ms"] else ""
                    times = f"{step}{line['iteration ms']:.1f} ms an iteration"
                    print(f"{name}, {line['engine']}, {processes} x {device}, {rows} rows: {times}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
