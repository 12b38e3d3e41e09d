"""Exports a checkpoint in the released format: python -m training.released RUN out.pth"""

import argparse
import sys
from pathlib import Path

from runtime.released import export


def main() -> None:
    """The command line: exports one checkpoint."""
    parser = argparse.ArgumentParser(description="Export a checkpoint in the released programs' .pth format.")
    parser.add_argument("checkpoint", help="one of our checkpoints, or a run directory")
    parser.add_argument("output", type=Path, help="the .pth to write")
    arguments = parser.parse_args()
    try:
        export(arguments.checkpoint, arguments.output)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
