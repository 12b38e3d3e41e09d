"""pyproject.toml lists every package that the code imports and every package that it is made of."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from conftest import ROOT
from test_structure import FILES, PACKAGES, PROGRAMS, imports

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OPTIONAL = {"adam_atan2", "jax", "onnx", "onnxruntime", "onnxscript", "triton"}
"""Imported only where they are installed."""


def distribution(requirement: str) -> str:
    """`PyYAML` of `PyYAML>=6`, in lower case."""
    return re.split(r"[\s;<>=]", requirement)[0].lower()


def test_what_is_imported_is_listed():
    modules = set().union(*(imports(ast.parse(path.read_text())) for path in [*FILES, *PROGRAMS]))
    others = modules - set(sys.stdlib_module_names) - set(PACKAGES) - OPTIONAL
    installed = packages_distributions()
    extras = PROJECT["project"]["optional-dependencies"]
    listed = {distribution(requirement) for requirement in [*PROJECT["project"]["dependencies"], *extras["torch"]]}
    assert {installed[module][0].lower() for module in others} == listed


def test_every_package_and_program_is_shipped():
    assert {*PACKAGES, *(path.name for path in PROGRAMS)} == set(PROJECT["tool"]["hatch"]["build"]["only-include"])


def test_tested_versions_are_of_what_is_listed():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    listed = {distribution(word) for word in [*project["dependencies"], *extras["torch"], *extras["dev"]]}
    assert {distribution(line) for line in lines} == listed - {"triton"}, "torch brings its own Triton"


def test_pre_commit_has_the_tested_ruff():
    [tested] = re.findall(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert f"rev: v{tested}\n" in (ROOT / ".pre-commit-config.yaml").read_text()
