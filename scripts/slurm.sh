#!/usr/bin/env bash
# A SLURM job, submitted from the repository's folder. Options of sbatch say how many hosts and GPUs:
#   sbatch --nodes=2 --gpus-per-node=8 --time=8:00:00 scripts/slurm.sh train eqr_sudoku lr=3e-4
#   sbatch --array=1-16 --gpus-per-node=1 scripts/slurm.sh evaluate CHECKPOINT eval=sudoku_full eval_dir=results/full
#   sbatch --array=1-6 --gpus-per-node=1 scripts/slurm.sh sweep config/sweep/maze_widths.yaml [key=value ...]
#   sbatch --array=1-2 --gpus-per-node=1 scripts/slurm.sh sweep eqr_sudoku,trm_sudoku
# A training saves five minutes before its time is over, and queues again until it is complete. The tasks of an
# evaluation are its shards; a job of its own merges them. DRY_RUN=1 prints the commands and starts nothing.
#SBATCH --job-name=eqr
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
case ${1:-} in --help | -h) sed -n '2,/^#SBATCH/{/^#SBATCH/d; s/^# //; p}' "${BASH_SOURCE[0]}"; exit 0 ;; esac
refuse() { echo "error: $1" >&2; exit 1; }
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"  # SLURM runs a copy of this file, elsewhere
[ -f scripts/slurm.sh ] || refuse "submit from the repository's folder, not from $PWD"

run() {
  if [ -n "${DRY_RUN:-}" ]; then printf '%q ' "$@"; echo; else "$@"; fi
}

# One launcher on every host of the job. This script runs on the first of them.
on_all_hosts() {
  local hosts=${SLURM_JOB_NUM_NODES:-1}
  export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
  run srun --ntasks="$hosts" --ntasks-per-node=1 --kill-on-bad-exit=1 env NNODES="$hosts" \
    NPROC_PER_NODE="${NPROC_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}" MASTER_ADDR="$(hostname)" \
    MASTER_PORT=$((20000 + ${SLURM_JOB_ID:-0} % 10000)) JOIN_SECONDS="${JOIN_SECONDS:-300}" \
    bash -c 'NODE_RANK=$SLURM_NODEID exec bash "$@"' launcher "$@"
}

# Trains in a folder of this job's own. A job that queues again has the same number, so it goes on there.
train() {
  local folder=$1 words=() left
  shift
  if [ -n "${SLURM_JOB_END_TIME:-}" ]; then
    left=$((SLURM_JOB_END_TIME - $(date +%s)))
    words=("max_seconds=$((left > 600 ? left - 300 : left / 2))")
  fi
  on_all_hosts scripts/train.sh "$@" run_dir="$folder" ${words[@]+"${words[@]}"}
  [ -f "$folder/final.json" ] || run scontrol requeue "${SLURM_JOB_ID:-}"
}

# The runs of a sweep, one a line: the words after "- " in a file, or names with commas between them.
runs() {
  if [ -f "$1" ]; then sed -n 's/^- //p' "$1"; else tr ',' '\n' <<<"$1"; fi
}

what=${1:-} task=${SLURM_ARRAY_TASK_ID:-}
[ $# -gt 1 ] || refuse "say what to do: scripts/slurm.sh train|evaluate|sweep WORDS (--help has examples)"
shift
case $what in
  train) train "outputs/slurm-${SLURM_JOB_ID:-0}" "$@" ;;
  sweep)
    sweep=$1
    shift
    count=$(runs "$sweep" | wc -l)
    [ -n "$task" ] && [ "$task" -ge 1 ] && [ "$task" -le "$count" ] ||
      refuse "$sweep has $count runs: submit with --array=1-$count (this is task ${task:-of no array})"
    read -ra words < <(runs "$sweep" | sed -n "${task}p")
    train "outputs/slurm-${SLURM_ARRAY_JOB_ID:-0}/$task" "${words[@]}" "$@" ;;
  evaluate)
    shard=()
    if [ -n "$task" ]; then
      folder=$(printf '%s\n' "$@" | sed -n 's/^eval_dir=//p' | tail -n 1)
      [ -n "$folder" ] || refuse "the tasks of an array share one evaluation: give eval_dir=FOLDER"
      shard=("shard=$((task - SLURM_ARRAY_TASK_MIN + 1))/$SLURM_ARRAY_TASK_COUNT")
      if [ "$task" = "$SLURM_ARRAY_TASK_MIN" ] && [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then
        run sbatch --dependency="afterok:$SLURM_ARRAY_JOB_ID" scripts/slurm.sh merge "$folder"
      fi
    fi
    on_all_hosts scripts/eval.sh "$@" ${shard[@]+"${shard[@]}"} ;;
  merge)
    source scripts/_environment.sh
    run "$python" -m evaluation.merge "$@" ;;
  *) refuse "there is no $what: train, evaluate or sweep" ;;
esac
