"""The pages name files, code, keys and commands; these tests fail when the code has moved on.

A quote is a ```python or ```yaml block whose first line is `# path` or `# path::name`. It must be the whole YAML file,
or the whole function of that name without its docstring. Else its lines must stand in that file, in that order (lines
between them may be left out, indentation does not count). A reference is `path::name` or `path::Class.name` in
backticks. Keys in the third column of docs/paper_to_code.md's symbol table must be in config/schema.py or
config/architectures.py.
"""

import ast
import re
from functools import cache
from itertools import zip_longest
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch
from test_structure import PACKAGES

from benchmarks.model_table import shape_of
from config.load import load_pretrain
from config.words import choices
from evaluation import metrics
from models.build import build

ROOT = Path(__file__).parent.parent
PAGES_WITH_CODE = ("paper_to_code", "how_it_thinks", "xla", "your_own_task")
QUOTING = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in PAGES_WITH_CODE}
PAGE, HOW, XLA, TASK = QUOTING.values()
ALL = "\n".join(QUOTING.values())

Quote = tuple[str, list[str]]


def quotes(page: str) -> list[Quote]:
    """(path or path::name, quoted lines) of every code block."""
    quoted = []
    for block in re.findall(r"^```(?:python|yaml)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        head, *lines = [line for line in block.splitlines() if line]
        assert head.startswith("# ") and lines, f"not a path and lines that it quotes: {block}"
        quoted.append((head.removeprefix("# "), lines))
    return quoted


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
    """The first quoted line that is not the code's, in its place; None if all are."""
    path, lines = quote
    if "::" in path:
        return _first_other(lines, function(path))
    if not (ROOT / path).is_file():
        return lines[0]
    own = (ROOT / path).read_text().splitlines()
    if path.endswith(".yaml"):
        return _first_other(lines, [line for line in own if line])
    code = iter([line.strip() for line in own])
    return next((line for line in lines if line.strip() not in code), None)  # `in` goes on where it found the last


def _first_other(lines: list[str], whole: list[str]) -> str | None:
    return next((line for line, own in zip_longest(lines, whole, fillvalue="") if line != own), None)


def function(reference: str) -> list[str]:
    """The lines of a function, dedented, without its docstring and empty lines; [] if there is none."""
    path, name = reference.split("::")
    if not defined(reference):
        return []
    node, code = names(path)[name], (ROOT / path).read_text().splitlines()
    assert isinstance(node, ast.FunctionDef)
    first = node.body[bool(ast.get_docstring(node))]
    kept = code[node.lineno - 1 : node.body[0].lineno - 1] + code[first.lineno - 1 : node.end_lineno]
    return [line for line in dedent("\n".join(kept)).splitlines() if line]


@cache
def names(path: str) -> dict[str, ast.AST]:
    """What a file defines: `name` for functions, classes and variables, `Class.name` for members."""
    members: dict[str, ast.AST] = {}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                members[prefix + child.name] = child
                visit(child, f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix)
            elif isinstance(child, ast.Assign | ast.AnnAssign):
                targets = child.targets if isinstance(child, ast.Assign) else [child.target]
                members.update({prefix + t.id: child for t in targets if isinstance(t, ast.Name)})

    visit(ast.parse((ROOT / path).read_text()), "")
    return members


def defined(reference: str) -> bool:
    path, name = reference.split("::")
    return (ROOT / path).is_file() and name in names(path)


def configurable(key: str) -> bool:
    """`arch.x` in a class of that name's ending (EqRArch), a bare key in a training or an evaluation."""
    *groups, name = key.split(".")
    owners = (groups[-1].capitalize(),) if groups else ("PretrainConfig", "EvalConfig")
    files = ("config/schema.py", "config/architectures.py")
    members = (member.split(".") for file in files for member in names(file) if member.count(".") == 1)
    return any(member == name and owner.endswith(owners) for owner, member in members)


@pytest.mark.parametrize("quote", quotes(ALL), ids=lambda quote: f"{quote[0]}:{quote[1][0].strip()[:30]}")
def test_quotes_are_the_code(quote: Quote) -> None:
    missing = first_missing(quote)
    assert missing is None, f"a page quotes {quote[0]}, but there is no longer: {missing}"


@pytest.mark.parametrize("reference", references(ALL))
def test_names_exist(reference: str) -> None:
    assert defined(reference), f"a page names {reference}, which does not exist"


@pytest.mark.parametrize("path", files(ALL))
def test_files_exist(path: str) -> None:
    assert (ROOT / path).is_file(), f"a page names {path}, which does not exist"


@pytest.mark.parametrize("key", keys(PAGE))
def test_configuration_keys_exist(key: str) -> None:
    assert configurable(key), f"docs/paper_to_code.md names {key}, which is no configuration key"


@pytest.mark.parametrize("name", metric_names(PAGE))
def test_metrics_are_reported(name: str) -> None:
    answers, labels, scores = np.zeros((1, 3, 4), int), np.zeros((1, 4), int), np.zeros((1, 3))
    reported = metrics.breadth(answers, labels) | metrics.convergence_top_k(answers, labels, scores, 2)
    assert name in reported, f"docs/paper_to_code.md names the metric {name}, which no evaluation reports"


def test_the_pages_are_read() -> None:
    """Against a change of format that would leave nothing to check."""
    assert len(quotes(PAGE)) >= 18 and len(quotes(XLA)) == 2
    assert len(references(PAGE)) >= 20 and len(references(HOW)) > 5 and len(references(XLA)) > 30
    assert len(keys(PAGE)) >= 20 and len(files(HOW)) > 5
    assert files(PAGE) and metric_names(PAGE)
    assert PAGE.count("```") == 2 * len(quotes(PAGE)), "a code block is not a ```python quote"
    assert HOW.count("```") == 2 * (len(quotes(HOW)) + 1), "the other block is the puzzle"
    assert [path for path, _ in quotes(TASK)] == [
        *["examples/latin_squares/build.py"] * 2,
        "config/dataset/latin_squares.yaml",
        "config/train/latin_squares.yaml",
    ]


def test_the_checks_can_fail() -> None:
    [quote] = quotes("```python\n# models/relaxation.py\nrelaxed = h + lambda_ * (target - h)\n```\n")
    assert first_missing(quote) is None
    path, [line] = quote
    assert first_missing((path, [line, line])) == line, "it stands there once, not twice"
    assert first_missing((path, ["relaxed = h"])) == "relaxed = h", "a part of a line is not the line"
    relax = "models/relaxation.py::relax"
    head, *body = function(relax)
    assert first_missing((relax, [head, *body])) is None and len(body) == 4
    assert first_missing((relax, [head, *body[1:]])) == body[1] and first_missing((relax, [head])) == ""
    assert first_missing((relax, [head, *(line[4:] for line in body)])) == body[0][4:]
    assert first_missing(("models/no_such_file.py::relax", [head])) == head
    assert first_missing(("config/dataset/latin_squares.yaml", ["name: Latin-5x6"])) == "name: Latin-5x6"
    assert defined("models/relaxation.py::Relaxed.forward")
    assert not defined("models/relaxation.py::Relaxed.backward")
    assert not defined("models/relaxation.py::forward"), "a member needs its class"
    assert not defined("models/no_such_file.py::Relaxed")
    assert first_missing(("models/no_such_file.py", [line])) == line
    assert configurable("arch.lambda_") and configurable("arch.loss.loss_type") and configurable("lr")
    assert not configurable("arch.lr") and not configurable("lamda_")


# -- all pages -------------------------------------------------------------------------------------

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "results/README.md", "examples/see_it_think.ipynb")]
PAGES += [ROOT / "models" / "kernels" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(page: str) -> set[str]:
    """What a link can point at within a page, as GitHub names its headings."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> list[str]:
    """The links of a page to files or headings that do not exist."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        if link.startswith(("https://", "../../actions/")):
            continue  # the second: a page of GitHub
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_dead_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("## A heading, twice\n[a](page.md) [b](#a-heading-twice) [c](page.md#none) [d](none.md)")
    assert dead_links(page) == ["page.md#none", "none.md"]


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("[a-z]*.md") if f"({page.name})" not in index] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_files_of_the_front_pages_exist(name: str) -> None:
    page = (ROOT / name).read_text()
    assert [path for path in files(page) if path != "models/yours.py" and not (ROOT / path).is_file()] == []


def test_the_tree_names_every_room() -> None:
    rooms = re.findall(r"^(\w+)/ ", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert {*PACKAGES, "checkpoints", "docs", "examples", "results", "tests"} <= set(rooms)
    assert [room for room in rooms if not (ROOT / room).is_dir()] == []


def test_a_visitor_reads_the_front_page_in_a_few_minutes() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1000


def test_the_front_page_tells_how_to_test() -> None:
    command = "bash scripts/test.sh"
    for path in ("README.md", "CONTRIBUTING.md", ".ci/run", ".github/workflows/test.yml"):
        assert command in (ROOT / path).read_text(), path


# -- docs/experiments.md ---------------------------------------------------------------------------

EXPERIMENTS = re.findall(r"^\| `(\w+)` \|(.*)\|$", (ROOT / "docs" / "experiments.md").read_text(), re.MULTILINE)


def rounds_to(number: float, text: str) -> bool:
    """Whether `text`, such as 4.86M or 50k, is the number in as many digits."""
    digits, unit = re.fullmatch(r"([\d.]+)([kKM]?)", text).groups()
    last = 10.0 ** -len(digits.partition(".")[2])
    return abs(number / {"": 1, "k": 1e3, "K": 1e3, "M": 1e6}[unit] - float(digits)) <= 0.5001 * last


def test_every_experiment_is_listed() -> None:
    assert sorted(name for name, _ in EXPERIMENTS) == sorted(choices("train"))


@pytest.mark.parametrize("name, row", EXPERIMENTS, ids=lambda word: word[:40])
def test_an_experiment_has_these_steps_and_parameters(name: str, row: str) -> None:
    config = load_pretrain([f"train={name}"])
    _, _, steps, parameters, _ = (cell.strip() for cell in row.split("|"))
    epochs, batch = config.epochs, config.global_batch_size
    of_thousand_puzzles = epochs * 1000 // batch if config.join_epochs else epochs * (1000 // batch)
    expected = epochs if steps.endswith(" epochs") else config.max_steps or of_thousand_puzzles
    assert rounds_to(expected, steps.removesuffix(" epochs"))
    with torch.device("meta"):
        model = build(config.arch, shape_of(config))
    counts = [p.numel() for key, p in model.named_parameters() if key != "puzzle_emb.weights"]
    assert rounds_to(sum(counts), parameters)
    assert not rounds_to(1.1 * sum(counts), parameters)
