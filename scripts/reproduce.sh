#!/usr/bin/env bash
# Run a recorded experiment again, from data to comparison; or check its shipped checkpoint against what was recorded.
#   bash scripts/reproduce.sh NAME [--check] [--puzzles N] [--source-dir D] [--run RUN_DIR]
# NAME is a run of results/runs/, such as sudoku or hrm_sru; --check goes with sudoku, maze_unique and maze_unique_small.
# Training needs a GPU; --check and --run do not.
# Data, runs and NPROC_PER_NODE as in train.sh; results/README.md says more.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"
exec "$python" "$root/reproduction/reproduce.py" "$@"
