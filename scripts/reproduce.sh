#!/usr/bin/env bash
# Run an experiment again, from data to comparison; or check a shipped checkpoint against what was recorded.
#   bash scripts/reproduce.sh NAME [key=value ...] [--check] [--puzzles N] [--source-dir D] [--run RUN_DIR]
# NAME is a run of results/runs/, such as sudoku or hrm_sru; a recipe of config/train/, such as hrm_sudoku; or ladder.
# key=value changes the training of a recipe. --check goes with sudoku, maze_unique and maze_unique_small.
# Training needs a GPU; --check and --run do not.
# Data, runs and NPROC_PER_NODE as in train.sh; docs/reproduction.md says more.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"
exec "$python" "$root/reproduction/reproduce.py" "$@"
