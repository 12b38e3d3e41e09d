"""The text of every table of docs/performance.md, from results/speed/*.json."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from reproduction.records import ROOT
from reproduction.table_text import table

FOLDER = ROOT / "results" / "speed"
Case = Mapping[str, Any]


def _read(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return facts


def _ms(case: Case | None, name: str) -> str:
    return f"{case[name]:.1f} ms" if case and case.get(name) is not None else ""


def _with_memory(case: Case | None) -> str:
    memory = f", {case['GiB']:.1f} GiB" if case and "GiB" in case else ""
    return _ms(case, "training ms") + memory


def against_released() -> str:
    """This repository's kernels beside the released program, on the same GPU."""
    rows = []
    for case in _read("released")["cases"]:
        theirs, ours = case["released"], case["ours"]
        for name, work, shown in (
            ("training ms", "training step", _with_memory),
            ("iteration ms", "evaluation iteration", lambda times: _ms(times, "iteration ms")),
        ):
            ratio = f"{theirs[name] / ours[name]:.2f}"
            rows.append([f"`{case['config']}`, {work}", shown(theirs), shown(ours), ratio])
    return table(["768 rows, one H200", "released", "ours", "times as fast"], rows, "lrrr")


def ways() -> str:
    """Plain, compiled, kernels and float8, and what share of a large product's rate the best of them reaches."""
    cases = _read("h200")["cases"]
    rows = []
    for config in dict.fromkeys(case["config"] for case in cases):
        by_how = {case["how"]: case for case in cases if case["config"] == config}
        for name, work in (("training", "training step"), ("iteration", "evaluation iteration")):
            times = [_ms(by_how.get(how), f"{name} ms") for how in ("plain", "compiled", "kernels", "float8")]
            rate = by_how["kernels"]
            rows.append(
                [f"`{config}`, {work}", *times, f"{rate[f'{name} TFLOP/s']:.0f}", f"{rate[f'{name} share']:.0%}"]
            )
    head = ["768 rows, one H200", "plain", "compiled", "kernels", "float8", "TFLOP/s of kernels", "of a large product"]
    return table(head, rows, "lrrrrrr")


def engines() -> str:
    """An outer iteration of both engines on the same GPU."""
    cases = _read("xla")["cases"]
    rows = []
    for config, count in dict.fromkeys((case["config"], case["rows"]) for case in cases):
        times = {case["engine"]: case for case in cases if (case["config"], case["rows"]) == (config, count)}
        rows.append([f"`{config}`", f"{count:,}", *(_ms(times[engine], "iteration ms") for engine in ("torch", "xla"))])
    return table(["one H200, an outer iteration", "rows", "`engine=torch`", "`engine=xla`"], rows, "lrrr")


def scaling() -> str:
    """Several devices beside one of the same kind, commit and engine, by samples a second."""
    cases = _read("scaling")["cases"]
    same = ("config", "engine", "device", "commit")
    ones = {tuple(case[key] for key in same): case for case in cases if case["processes"] == 1}
    rows = []
    for case in cases:
        one = ones.get(tuple(case[key] for key in same))
        if case["processes"] == 1 or not one:
            continue
        row = [f"`{case['config']}`", case["engine"], f"{case['processes']} x {case['device']}", f"{case['rows']:,}"]
        for work in ("training ms", "iteration ms"):
            row.append(_ms(case, work))
            row.append(f"{case['rows'] / case[work] * one[work] / one['rows']:.2f}" if case[work] and one[work] else "")
        rows.append([*row, case["commit"]])
    head = ["config", "engine", "devices", "rows", "training step", "times one", "iteration", "times one", "commit"]
    return table(head, rows, "lllrrrrrl")


def models() -> str:
    """Samples a second of every experiment's model, on a GPU and on two CPU cores."""

    def shown(value: float) -> str:
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"

    rows = [
        [
            f"`{case['config']}`",
            *(shown(case[device][of]) for device in ("H200", "two cores") for of in ("training", "evaluation")),
        ]
        for case in _read("models")["cases"]
    ]
    return table(["config", "H200: training", "evaluation", "two cores: training", "evaluation"], rows, "lrrrr")


def cpu() -> str:
    """Plain and compiled code on a CPU."""
    rows = [
        [f"`{case['config']}`, {case['rows']}", case["how"], _ms(case, "training ms"), _ms(case, "iteration ms")]
        + [f"{case['first step s']:.1f} s"]
        for case in _read("cpu")["cases"]
    ]
    return table(["config, rows", "how", "training step", "evaluation iteration", "first step"], rows, "llrrr")


def float8() -> str:
    """Accuracy and time of one evaluation in bfloat16 and in float8."""
    rows = []
    for case in _read("float8")["cases"]:
        exact = [f"{case['metrics'][depth]['all/exact_accuracy']:.2%}" for depth in ("4", "16", "64")]
        residual = f"{case['metrics']['64']['all/residual']:.2f}"
        rows.append([f"`kernels={case['kernels']}`", *exact, residual, f"{case['device s']:.1f} s"])
    return table(["", "exact at depth 4", "16", "64", "residual at 64", "time"], rows, "lrrrrr")


def profile() -> str:
    """Kernel time of a training step by kind of work."""
    cases = _read("profile")["cases"]
    configs = list(dict.fromkeys(config for case in cases for config in case["ms"]))
    rows = [
        [case["work"], *(f"{case['ms'][config]:.1f}" if config in case["ms"] else "" for config in configs)]
        for case in cases
    ]
    return table(["ms of a training step", *(f"`{config}`" for config in configs)], rows, "l" + "r" * len(configs))


def no_help() -> str:
    """The changes to kernels that did not help, with single kernels' times in ms."""
    rows: Sequence[Case] = _read("kernels")["did not help"]
    return table(list(rows[0]), [[str(value) for value in row.values()] for row in rows], "llrr")


def speed_texts() -> dict[str, str]:
    """The text of every table by name."""
    texts = {"against_released": against_released(), "ways": ways(), "scaling": scaling(), "models": models()}
    return texts | {"engines": engines(), "cpu": cpu(), "float8": float8(), "profile": profile(), "no_help": no_help()}
