"""docs/paper_to_code.md quotes code and names it; these tests fail when the code has moved on.

A quote is a ```python block whose first line is `# path`: its lines must stand in that file, in that order
(lines between them may be left out, indentation does not count). A reference is `path::name` or
`path::Class.name` in backticks. Keys in the symbol table's third column must be in config/schema.py.
"""

import ast
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from evaluation import metrics

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "paper_to_code.md").read_text()

Quote = tuple[str, list[str]]


def quotes(page: str) -> list[Quote]:
    """(path, quoted lines) of every code block."""
    found = []
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        head, *lines = [line.strip() for line in block.splitlines() if line.strip()]
        assert head.startswith("# ") and lines, f"not a path and lines that it quotes: {block}"
        found.append((head.removeprefix("# "), lines))
    return found


def references(page: str) -> list[str]:
    """Every `path::name`, once; what stands between backticks outside of code blocks."""
    return sorted({word for word in _words(page) if "::" in word} - {"path::name"})


def files(page: str) -> list[str]:
    """Every file that the page names alone."""
    return sorted({word for word in _words(page) if re.fullmatch(r"[\w./-]+/[\w.-]+\.\w+", word)})


def keys(page: str) -> list[str]:
    """Configuration keys: the third column of the symbol table, and `arch.` keys anywhere."""
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| $")]
    column = {word for row in rows for word in re.findall(r"`([^`]+)`", row[3])}
    return sorted(column | {word for word in _words(page) if re.fullmatch(r"arch\.[\w.]+", word)})


def metric_names(page: str) -> list[str]:
    """Metrics of breadth and selection that the page names."""
    groups = "different_init|majority_vote|convergence_top_k"
    return sorted({word for word in _words(page) if re.fullmatch(rf"({groups})/\S+", word)})


def _words(page: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL))


def first_missing(quote: Quote) -> str | None:
    """The first quoted line that does not follow the ones before it in the file; None if all do."""
    path, lines = quote
    if not (ROOT / path).is_file():
        return lines[0]
    code = iter([line.strip() for line in (ROOT / path).read_text().splitlines()])
    return next((line for line in lines if line not in code), None)  # `in` goes on where it found the last


@cache
def names(path: str) -> frozenset[str]:
    """What a file defines: `name` for functions, classes and variables, `Class.name` for members."""
    found: set[str] = set()

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                found.add(prefix + child.name)
                visit(child, f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix)
            elif isinstance(child, ast.Assign | ast.AnnAssign):
                targets = child.targets if isinstance(child, ast.Assign) else [child.target]
                found.update(prefix + t.id for t in targets if isinstance(t, ast.Name))

    visit(ast.parse((ROOT / path).read_text()), "")
    return frozenset(found)


def defined(reference: str) -> bool:
    path, name = reference.split("::")
    return (ROOT / path).is_file() and name in names(path)


def configurable(key: str) -> bool:
    """`arch.x` in a class of that name's ending (EqRArch), a bare key in a training or an evaluation."""
    *groups, name = key.split(".")
    owners = (groups[-1].capitalize(),) if groups else ("PretrainConfig", "EvalConfig")
    members = (member.split(".") for member in names("config/schema.py") if member.count(".") == 1)
    return any(member == name and owner.endswith(owners) for owner, member in members)


@pytest.mark.parametrize("quote", quotes(PAGE), ids=lambda quote: f"{quote[0]}:{quote[1][0][:30]}")
def test_quoted_lines_stand_in_the_code(quote: Quote) -> None:
    missing = first_missing(quote)
    assert missing is None, f"docs/paper_to_code.md quotes {quote[0]}, but there is no longer: {missing}"


@pytest.mark.parametrize("reference", references(PAGE))
def test_names_exist(reference: str) -> None:
    assert defined(reference), f"docs/paper_to_code.md names {reference}, which does not exist"


@pytest.mark.parametrize("path", files(PAGE))
def test_files_exist(path: str) -> None:
    assert (ROOT / path).is_file(), f"docs/paper_to_code.md names {path}, which does not exist"


@pytest.mark.parametrize("key", keys(PAGE))
def test_configuration_keys_exist(key: str) -> None:
    assert configurable(key), f"docs/paper_to_code.md names {key}, which is no configuration key"


@pytest.mark.parametrize("name", metric_names(PAGE))
def test_metrics_are_reported(name: str) -> None:
    answers, labels, scores = np.zeros((1, 3, 4), int), np.zeros((1, 4), int), np.zeros((1, 3))
    reported = metrics.breadth(answers, labels) | metrics.convergence_top_k(answers, labels, scores, 2)
    assert name in reported, f"docs/paper_to_code.md names the metric {name}, which no evaluation reports"


def test_the_page_is_read() -> None:
    """Against a change of format that would leave nothing to check."""
    assert len(quotes(PAGE)) >= 18
    assert len(references(PAGE)) >= 20
    assert len(keys(PAGE)) >= 20
    assert files(PAGE) and metric_names(PAGE)
    assert PAGE.count("```") == 2 * len(quotes(PAGE)), "a code block is not a ```python quote"


def test_the_checks_can_fail() -> None:
    [quote] = quotes("```python\n# models/eqr.py\nrelaxed = h + lambda_ * (target - h)\n```\n")
    assert first_missing(quote) is None
    path, [line] = quote
    assert first_missing((path, [line, line])) == line, "it stands there once, not twice"
    assert first_missing((path, ["relaxed = h"])) == "relaxed = h", "a part of a line is not the line"
    assert defined("models/eqr.py::Relaxed.forward")
    assert not defined("models/eqr.py::Relaxed.backward")
    assert not defined("models/eqr.py::forward"), "a member needs its class"
    assert not defined("models/no_such_file.py::Relaxed")
    assert first_missing(("models/no_such_file.py", [line])) == line
    assert configurable("arch.lambda_") and configurable("arch.loss.loss_type") and configurable("lr")
    assert not configurable("arch.lr") and not configurable("lamda_")
