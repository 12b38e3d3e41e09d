#!/usr/bin/env bash
# Train: bash scripts/train.sh eqr_sudoku [key=value ...]
# The experiment may be written eqr_sudoku, train/eqr_sudoku or config/train/eqr_sudoku.yaml.
# Go on with a run: bash scripts/train.sh resume=outputs/eqr_sudoku/<time>
# Several GPUs (or CPU processes): NPROC_PER_NODE=2 bash scripts/train.sh ...
set -euo pipefail
case ${1:-} in --help | -h) sed -n '2,/^set/{/^set/d; s/^# //; p}' "${BASH_SOURCE[0]}"; exit 0 ;; esac
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"
experiment=()
if [ $# -gt 0 ] && [[ $1 != *=* && $1 != -* ]]; then
  name=${1##*train/}
  experiment=("train=${name%.yaml}")
  shift
fi
launch pretrain.py ${experiment[@]+"${experiment[@]}"} "$@"
