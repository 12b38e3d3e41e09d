"""examples/see_it_think.ipynb and README's lines of Python run; the notebook's outputs are small."""

import json
import os
import re
import subprocess
import sys

from conftest import ROOT

NOTEBOOK = ROOT / "examples" / "see_it_think.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
FEWER = {"depth=64": "depth=4", "depth=16": "depth=3", "[1, 16, 48, 64]": "[1, 2, 4]", "[1, 2, 3, 16]": "[1, 3]"}
"""In the test the model thinks less, so that it takes seconds."""


def test_the_code_runs():
    front = re.findall(r"^```python\n(from solving.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    assert len(front) == 1
    program = "\n\n".join([*CODE, *front])
    for written, fewer in FEWER.items():
        assert written in program
        program = program.replace(written, fewer)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, cwd=NOTEBOOK.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("valid: ") == 3 and "valid: True" in done.stdout, "two iterations solve the easy puzzle"


def test_its_outputs_are_there_and_small():
    outputs = [output for cell in CELLS for output in cell.get("outputs", [])]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) == 2
    assert all(output["output_type"] != "error" for output in outputs)
    assert NOTEBOOK.stat().st_size < 200_000
