#!/usr/bin/env bash
# Train: bash scripts/train.sh eqr_sudoku [key=value ...]
# The experiment may be written eqr_sudoku, train/eqr_sudoku or config/train/eqr_sudoku.yaml.
# Go on with a run: bash scripts/train.sh resume=outputs/eqr_sudoku
# Several GPUs (or CPU processes): NPROC_PER_NODE=2 bash scripts/train.sh ...
# Several hosts: the same on each, with NNODES=2 NODE_RANK=0 (then 1, ...) MASTER_ADDR=HOST_0 [MASTER_PORT=29500]
# MAX_RESTARTS=3: up to three times a process that was killed starts again, and the run goes on from its last checkpoint.
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
