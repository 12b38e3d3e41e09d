#!/usr/bin/env bash
# Evaluate: bash scripts/eval.sh CHECKPOINT [key=value ...]
#   bash scripts/eval.sh checkpoint.pth halt_max_steps=64 different_init=128 convergence_top_k=1
#   bash scripts/eval.sh outputs/eqr_sudoku eval=sudoku_full
# CHECKPOINT is one of ours (a file, a run's folder, or outputs/NAME for its newest run) or a released .pth,
# or an address on the hub (hf://OWNER/NAME). NPROC_PER_NODE and NNODES as in train.sh.
set -euo pipefail
case ${1:-} in --help | -h) sed -n '2,/^set/{/^set/d; s/^# //; p}' "${BASH_SOURCE[0]}"; exit 0 ;; esac
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"
checkpoint=()
if [ $# -gt 0 ] && [[ $1 != *=* && $1 != -* || -e $1 ]]; then
  checkpoint=("checkpoint='${1//\'/\\\'}'")
  shift
fi
launch evaluate.py ${checkpoint[@]+"${checkpoint[@]}"} "$@"
