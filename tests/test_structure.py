"""The house rules of the code: imports point one way, one file knows attention's backends, names are explained."""

import ast
import platform
import sys
from pathlib import Path

import pytest
from conftest import ROOT, command

PACKAGES = ["config", "dataset", "models", "runtime", "training", "evaluation", "xla", "solving", "reproduction"]
"""Each may import those before it and itself, but for APART."""
APART = {"training", "evaluation"}
"""Neither knows the other."""
BESIDE = ["benchmarks", "examples", "scripts"]
"""Folders with programs that nothing imports."""
PROGRAMS = sorted(ROOT.glob("*.py"))
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FILES_BESIDE = sorted(path for folder in BESIDE for path in (ROOT / folder).rglob("*.py"))
ENTRY_POINTS = {path.stem for path in PROGRAMS}
LOCAL = {*PACKAGES, *BESIDE, "tests", *ENTRY_POINTS}
"""Whatever can be imported from the repository's root."""


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(module: ast.Module) -> set[str]:
    """First parts of all modules that are imported, anywhere in the file."""
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            found.add((node.module or "").split(".")[0])
    return found


def allowed(package: str) -> set[str]:
    """The packages that a file of `package` may import."""
    before = set(PACKAGES[: PACKAGES.index(package) + 1])
    return before - (APART - {package} if package in APART else set())


def wrong_imports(package: str, module: ast.Module) -> set[str]:
    """What a file of `package` imports and should not."""
    return imports(module) & (LOCAL - allowed(package))


def imported_files(module: ast.Module, file: str, known: set[str]) -> set[str]:
    """The files, by dotted name, that a file imports, also for types alone. Packages on the way to them run too."""
    imported = set()
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom):
            modules = {f"{node.module}.{alias.name}" for alias in node.names} & known
            imported |= modules or {node.module or ""} & known
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names} & known
    packages = {package for name in imported for package in packages_of(name)} & known
    return imported | packages - {*packages_of(file), file}


def packages_of(file: str) -> set[str]:
    """The packages that a file is in: `a` and `a.b` for `a.b.c`."""
    parts = file.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))}


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Files that import each other in a circle, or nothing."""
    finished: set[str] = set()

    def visit(file: str, path: list[str]) -> list[str]:
        if file in path:
            return [*path[path.index(file) :], file]
        if file not in finished:
            for other in sorted(graph[file]):
                if found := visit(other, [*path, file]):
                    return found
            finished.add(file)
        return []

    return next((found for file in sorted(graph) if (found := visit(file, []))), [])


def dotted(path: Path) -> str:
    """`evaluation/units.py` as `evaluation.units`."""
    return name(path.with_suffix("")).replace("/", ".").removesuffix(".__init__")


def import_graph() -> dict[str, set[str]]:
    """The files that every file of the packages imports, by dotted name."""
    known = {dotted(path) for path in FILES}
    return {dotted(path): imported_files(tree(path), dotted(path), known) for path in FILES}


def without_docstring(module: ast.Module) -> list[str]:
    """Public functions and classes of a file without a word about them."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public = [node for node in module.body if isinstance(node, kinds) and not node.name.startswith("_")]
    return [node.name for node in public if not (ast.get_docstring(node) or "").strip()]


def test_there_is_something_to_check():
    assert {path.parent.name for path in FILES} >= set(PACKAGES) and len(FILES) > 20
    assert ENTRY_POINTS >= {"pretrain", "evaluate"} and len(FILES_BESIDE) > 5
    assert LOCAL >= {path.parent.name for path in ROOT.glob("[a-z]*/__init__.py")}, "a package that is in no list"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_point_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    assert not wrong_imports(package, tree(path)), f"{package} may import {sorted(allowed(package))}"


def test_no_files_import_each_other_in_a_circle():
    assert cycle(import_graph()) == []


@pytest.mark.parametrize("path", PROGRAMS, ids=name)
def test_entry_points_are_thin_and_apart(path):
    assert not imports(tree(path)) & (LOCAL - set(PACKAGES))
    assert len(path.read_text().splitlines()) < 100


@pytest.mark.parametrize("path", FILES_BESIDE, ids=name)
def test_no_program_imports_an_entry_point(path):
    assert not imports(tree(path)) & ENTRY_POINTS


def test_kernels_are_chosen_in_one_file():
    """In models/backend.py. The trainer makes a graph of its whole step."""
    users = {file for file, imported in import_graph().items() if "models.kernels" in imported}
    assert {file for file in users if not file.startswith("models.kernels.")} == {"models.backend", "training.trainer"}


def first_import(module: ast.Module) -> str:
    """The first module that is imported and is not of the standard library."""
    names = [
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(module)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    return next(name for name in names if name.split(".")[0] not in sys.stdlib_module_names)


def test_threads_are_told_how_to_wait_before_torch_is_imported():
    """By `config`, which every program and every package imports before anything else."""
    assert "OMP_WAIT_POLICY" in (ROOT / "config/__init__.py").read_text() and not imports(
        tree(ROOT / "config/__init__.py")
    ) - {"os", "sys", "ctypes", "contextlib", "importlib", "types"}
    for package in [*PACKAGES[1:], "benchmarks"]:
        assert first_import(tree(ROOT / package / "__init__.py")) == "config", package
    for program in PROGRAMS:
        assert first_import(tree(program)).split(".")[0] in PACKAGES, program
    assert first_import(ast.parse("import os\nimport numpy\nfrom config import load")) == "numpy"


STEPS = """
import resource
import torch
import config

x = torch.ones(2**22)

def step():
    y = x * 2
    (y * (y + 1)).sum()

for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries of C keep memory as they like")
def test_memory_of_large_tensors_is_kept_for_the_next_ones(tmp_path):
    (tmp_path / "program.py").write_text(STEPS)
    new_pages = int(command(tmp_path / "program.py").stdout)
    assert new_pages < 10_000, "handed back to the system, 20 steps would take more than 40,000"


def test_files_do_not_hide_the_standard_library():
    """A file beside the entry points would be found before the module of that name."""
    top = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert not top & set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", [*FILES, *PROGRAMS], ids=name)
def test_one_file_knows_the_backends_of_attention(path):
    """One of PyTorch, one of XLA, and one of ONNX."""
    if name(path) not in ("models/attention.py", "xla/attention.py", "solving/onnx_attention.py"):
        text = path.read_text().lower()
        assert not [word for word in ("scaled_dot_product", "flash_attn_", "cudnn", "flex_attention") if word in text]


def test_attention_is_never_masked():
    text = (ROOT / "models/attention.py").read_text()
    assert "scaled_dot_product_attention(" in text and "attn_mask" not in text


@pytest.mark.parametrize("path", [*FILES, *FILES_BESIDE, *PROGRAMS], ids=name)
def test_public_names_are_explained(path):
    module = tree(path)
    assert ast.get_docstring(module), "the file itself"
    assert without_docstring(module) == []


def test_the_checks_can_fail():
    assert wrong_imports("models", ast.parse("from training.ema import EMA\nimport torch")) == {"training"}
    assert wrong_imports("config", ast.parse("def f():\n    import models.layers")) == {"models"}
    assert wrong_imports("training", ast.parse("from evaluate import main")) == {"evaluate"}
    assert wrong_imports("evaluation", ast.parse("import config, training.loop, dataset")) == {"training"}
    assert wrong_imports("reproduction", ast.parse("import solving, training.loop, evaluation")) == set()
    one, other = ast.parse("def f():\n    from b import x"), ast.parse("if TYPE_CHECKING:\n    import a")
    known = {"a", "b", "p", "p.q"}
    assert cycle({"a": imported_files(one, "a", known), "b": imported_files(other, "b", known)}) == ["a", "b", "a"]
    assert imported_files(ast.parse("from p.q import x"), "a", known) == {"p", "p.q"}
    assert imported_files(ast.parse("from p import q"), "p", known) == {"p.q"}
    assert imported_files(ast.parse("import p.q, b"), "p.r", known) == {"p.q", "b"}
    assert imported_files(ast.parse("from p import x"), "p.r", known) == {"p"}
    assert without_docstring(ast.parse("class A: pass\ndef f():\n    'yes'\ndef _g(): pass")) == ["A"]
