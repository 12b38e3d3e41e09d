"""examples/see_it_think.ipynb and README's lines of Python run; the notebook's outputs are small."""

import importlib.util
import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT, start

NOTEBOOK = ROOT / "examples" / "see_it_think.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
FEWER = {
    "depth=64": "depth=3",
    "depth=16": "depth=2",
    "breadth=4": "breadth=2",
    "[1, 16, 48, 64]": "[1, 3]",
    "[1, 2, 3, 16]": "[1, 2]",
}
"""In the test the model thinks less, so that it takes seconds."""


def test_the_code_runs(tmp_path, monkeypatch):
    front = re.findall(r"^```python\n(from solving.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    assert len(front) == 1
    program = "\n\n".join([*CODE, *front])
    for written, fewer in FEWER.items():
        assert written in program
        program = program.replace(written, fewer)
    (tmp_path / "program.py").write_text(program)
    monkeypatch.chdir(NOTEBOOK.parent)
    done = start(tmp_path / "program.py", MPLBACKEND="Agg").end()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("valid: ") == 3 and "valid: True" in done.stdout, "two iterations solve the easy puzzle"


def test_the_first_cell_installs(tmp_path, monkeypatch):
    """Without the package it clones the repository, or takes the checkout around it; with it, it does nothing."""
    ran = []
    monkeypatch.setattr(subprocess, "run", lambda words, check: ran.append(words))
    monkeypatch.setattr(sys, "path", [*sys.path])
    exec(CODE[0], {})
    assert ran == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="fill in REPOSITORY"):
        exec(CODE[0], {})
    exec(CODE[0].replace('REPOSITORY = ""', 'REPOSITORY = "https://host/repository"'), {})
    clone, install = ran
    assert clone == ["git", "clone", "--depth=1", "https://host/repository", str(tmp_path / "equilibrium-reasoners")]
    assert install[1:] == ["-m", "pip", "install", "--quiet", "-e", f"{tmp_path / 'equilibrium-reasoners'}[torch]"]
    monkeypatch.chdir(NOTEBOOK.parent)
    exec(CODE[0], {})
    assert ran[2:] == [[*install[:-1], f"{ROOT}[torch]"]] and sys.path[0] == str(ROOT)


def test_its_outputs_are_there_and_small():
    outputs = [output for cell in CELLS for output in cell.get("outputs", [])]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) == 2
    assert all(output["output_type"] != "error" for output in outputs)
    assert NOTEBOOK.stat().st_size < 200_000
