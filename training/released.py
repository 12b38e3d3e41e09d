"""Exports a checkpoint in the released format: python -m training.released RUN out.pth"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from config.command import command
from runtime.files import require_place
from runtime.released import export


@command()
def main(words: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Export a checkpoint in the released programs' .pth format.")
    parser.add_argument("checkpoint", help="one of our checkpoints, or a run directory")
    parser.add_argument("output", type=Path, help="the .pth to write")
    arguments = parser.parse_args(words)
    require_place(arguments.output, ".pth")
    export(arguments.checkpoint, arguments.output)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main(sys.argv[1:])
