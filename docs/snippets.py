"""Fills the code blocks of docs/how_it_thinks.md from the code: python docs/snippets.py [--check].

The line above a block is a comment that says where its code stands:

    <!-- snippet: models/recursion.py::Recursion.forward -->

A name is a function, a class, `Class.method`, or `function.variable` for the statement that first assigns the variable.
Spaces part several names of one file. Docstrings are left out unless the comment ends in `with docstring`.
--check writes nothing; its exit code is 1 if a block is stale.
"""

import ast
import re
import sys
from itertools import groupby
from pathlib import Path
from textwrap import dedent

from config.command import command

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "how_it_thinks.md"
BLOCK = re.compile(r"^(<!-- snippet: (\S+)::([\w. ]+?)( with docstring)? -->\n```python\n).*?^```$", re.M | re.S)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def find(tree: ast.Module, name: str) -> ast.stmt:
    """The statement that defines or first assigns a dotted name.

    Raises:
        ValueError: nothing of that name.
    """
    node: ast.AST = tree
    for part in name.split("."):
        node = next((child for child in _inside(node) if part in _names(child)), None)
        if node is None:
            raise ValueError(f"there is no {name}")
    assert isinstance(node, ast.stmt)
    return node


def _inside(node: ast.AST) -> list[ast.stmt]:
    """The statements of a definition and of its loops and conditions, but not of definitions within it."""
    statements = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            statements.append(child)
        if not isinstance(child, DEFINITIONS):
            statements += _inside(child)
    return statements


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, DEFINITIONS):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def source(text: str, name: str, docstring: bool) -> str:
    """The lines of `text` that define a name, dedented."""
    node = find(ast.parse(text), name)
    decorators = node.decorator_list if isinstance(node, DEFINITIONS) else []
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    lines = text.splitlines()
    kept = lines[first - 1 : node.end_lineno]
    if isinstance(node, DEFINITIONS) and not docstring and ast.get_docstring(node) and len(node.body) > 1:
        start, end = node.body[0].lineno - first, node.body[0].end_lineno - first + 1
        end += not kept[end].strip()  # the empty line below it
        del kept[start:end]
    return dedent("\n".join(kept)) + "\n"


def _heading(text: str, name: str) -> str:
    """The definition itself, or the function that holds a statement: the comment above the code names it."""
    return name if isinstance(find(ast.parse(text), name), DEFINITIONS) else name.rpartition(".")[0]


def fill(page: str, root: Path = ROOT) -> str:
    """The page with every marked block as the code below `root` has it.

    Raises:
        ValueError: a marked file or name does not exist, or a comment has no block under it.
    """

    def filled(match: re.Match[str]) -> str:
        head, path, names, docstring = match.groups()
        try:
            text = (root / path).read_text()
            parts = [(_heading(text, name), source(text, name, bool(docstring))) for name in names.split()]
        except (OSError, ValueError) as error:
            raise ValueError(f"snippet {path}::{names}: {error}") from None
        groups = [(owner, "".join(code for _, code in group)) for owner, group in groupby(parts, lambda part: part[0])]
        return head + "\n".join(f"# {path}: {owner}\n{code}" for owner, code in groups) + "```"

    if len(BLOCK.findall(page)) != page.count("<!-- snippet:"):
        raise ValueError("a snippet comment has no ```python block on the line below it, or cannot be read")
    return BLOCK.sub(filled, page)


@command()
def main(words: list[str]) -> int:
    """The command line. Exit code: 1 for a mistake, and with `--check` if a block is stale."""
    if words not in ([], ["--check"]):
        raise ValueError("usage: python docs/snippets.py [--check]")
    old = PAGE.read_text()
    new = fill(old)
    if words:
        stale = [was for was, now in zip(BLOCK.finditer(old), BLOCK.finditer(new), strict=True) if was[0] != now[0]]
        for match in stale:
            print(f"stale: {match[2]}::{match[3]} (python docs/snippets.py rewrites it)", file=sys.stderr)
        return int(bool(stale))
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
