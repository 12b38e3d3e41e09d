"""Rewrites all generated tables and figures: python -m reproduction.tables [--check]

A table stands between `<!-- results:NAME -->` and `<!-- /results -->` in one of PAGES. It comes from
results/runs/*.json (ours), results/paper.json (the paper's) and results/speed/*.json. `--check` changes nothing; its
exit code is 1 if something would change.
"""

import argparse
import re
import sys
from collections.abc import Sequence

from config.command import command
from reproduction.figures import drawings
from reproduction.ladder import ladders
from reproduction.paper import read_paper
from reproduction.records import ROOT, read_records
from reproduction.speed_text import speed_texts
from reproduction.systems_text import systems_texts
from reproduction.table_text import table_texts
from runtime.files import write_whole

PAGES = ("README.md", "results/README.md", "results/evaluations.md", "docs/performance.md")
_TABLE = re.compile(r"(<!-- results:(\w+) -->\n).*?(<!-- /results -->)", re.DOTALL)


def rewritten(page: str, texts: dict[str, str]) -> str:
    """A page with its tables filled in. Raises ValueError for a table without a text."""
    for _, name, _ in _TABLE.findall(page):
        if name not in texts:
            raise ValueError(f"there is no table {name} (one of: {', '.join(texts)})")
    return _TABLE.sub(lambda table: table[1] + texts[table[2]] + table[3], page)


@command()
def main(words: Sequence[str]) -> int:
    """The command line. Exit code: 1 for a mistake, and with `--check` if something would change."""
    parser = argparse.ArgumentParser(
        prog="python -m reproduction.tables", description="Rewrite the tables and figures."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if something would change")
    check = parser.parse_args(words).check
    paper, records = read_paper(), read_records()
    texts = table_texts(paper, records) | systems_texts(paper, records) | speed_texts()
    pages = {ROOT / name: rewritten((ROOT / name).read_text(), texts) for name in PAGES}
    drawn = drawings(paper, records) | ladders(paper, records)
    figures = {ROOT / "results" / f"{name}.png": picture for name, picture in drawn.items()}
    stale_pages = [file for file, text in pages.items() if file.read_text() != text]
    stale_figures = [file for file, picture in figures.items() if not picture.stands_in(file)]
    stale = [str(file.relative_to(ROOT)) for file in (*stale_pages, *stale_figures)]
    if check:
        for name in stale:
            print(f"{name} is not what the records say: python -m reproduction.tables", file=sys.stderr)
        return 1 if stale else 0
    for file in stale_pages:
        write_whole(file, pages[file])
    for file in stale_figures:
        figures[file].draw(file)
    print(f"rewrote {', '.join(stale) or 'nothing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
