"""Rewrites the tables in results/README.md and README.md, and the figures: python -m reproduction.tables [--check]

A table stands between `<!-- results:NAME -->` and `<!-- /results -->`, and comes from results/runs/*.json (ours) and
results/paper.json (the paper's). `--check` changes nothing, and its exit code is 1 where something would change.
"""

import argparse
import re
import sys
from collections.abc import Sequence

from config.command import command
from reproduction.blocks import blocks, figures
from reproduction.recorded import ROOT, RUNS, read, runs
from runtime.files import write_whole

PAGES = ("results/README.md", "README.md")
_BLOCK = re.compile(r"(<!-- results:(\w+) -->\n).*?(<!-- /results -->)", re.DOTALL)


def rewritten(page: str, texts: dict[str, str]) -> str:
    """A page with its blocks filled in. Raises ValueError for a block that there is no text for."""
    for _, name, _ in _BLOCK.findall(page):
        if name not in texts:
            raise ValueError(f"there is no table {name} (one of: {', '.join(texts)})")
    return _BLOCK.sub(lambda block: block[1] + texts[block[2]] + block[3], page)


@command()
def main(words: Sequence[str]) -> int:
    """The command line. Exit code: 1 for a mistake, and with `--check` if something would change."""
    parser = argparse.ArgumentParser(
        prog="python -m reproduction.tables", description="Rewrite the tables and figures."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 where something would change")
    check = parser.parse_args(words).check
    paper, recorded = read(RUNS.parent / "paper.json"), runs()
    texts = blocks(paper, recorded)
    drawn = figures(paper, recorded)
    pages = {ROOT / name: rewritten((ROOT / name).read_text(), texts) for name in PAGES}
    stale = [file for file, text in pages.items() if file.read_text() != text]
    if check:
        stale += [file for name in drawn if not (file := RUNS.parent / f"{name}.png").is_file()]
        for file in stale:
            print(
                f"{file.relative_to(ROOT)} is not what the records say: python -m reproduction.tables", file=sys.stderr
            )
        return 1 if stale else 0
    for file in stale:
        write_whole(file, pages[file])
    if drawn:
        from reproduction.figures import draw

        for name in drawn:
            draw(paper[name], recorded, RUNS.parent / f"{name}.png")
    print(f"rewrote {', '.join(str(file.relative_to(ROOT)) for file in stale) or 'nothing'}; drew {drawn or 'nothing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
