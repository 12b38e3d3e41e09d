"""The benchmarks run as files, from any folder; what they measure is nobody's test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def run(name: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(BENCHMARKS / name), *words], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["model_table.py", "speed.py", "sru_scan.py", "test_time_compute.py"])
def test_they_say_how_they_are_used(name, tmp_path):
    done = run(name, "--help", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: {name}"), done.stderr


@pytest.mark.parametrize(
    "name, words, why",
    [
        ("speed.py", ["quickstart", "--how", "float8"], "kernels=float8 cannot be had here"),
        ("speed.py", ["nosuch"], "nosuch"),
        ("test_time_compute.py", ["nosuch", "--depth", "0"], "--depth, --breadth and --rows should be at least 1"),
        ("test_time_compute.py", ["nosuch", "--noise-scale", "-1"], "noise_scale should be "),
    ],
)
def test_a_mistake_is_one_sentence(name, words, why, tmp_path):
    done = run(name, *words, cwd=tmp_path)
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    [error] = done.stderr.splitlines()
    assert error.startswith("error: ") and why in error


def test_speed_prints_a_table_and_writes_what_it_found(tmp_path):
    done = run("speed.py", "quickstart", "--how", "plain", "--rows", "4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "speed.json").read_text())
    [case] = found["cases"]
    assert (case["config"], case["how"], case["rows"], case["processes"]) == ("quickstart", "plain", 4, 1)
    assert case["training ms"] > case["iteration ms"] > 0 and case["GiB"] > 0 and case["first step s"] > 0
    for what in ("training", "iteration"):
        assert case[f"{what} share"] == pytest.approx(case[f"{what} TFLOP/s"] / found["ceilings"]["TFLOP/s"])
    assert done.stdout.splitlines()[-1].startswith("| `quickstart` | plain | 4 |")
