#!/usr/bin/env bash
# From nothing to a reasoner in about a minute on two CPU cores, once it has installed: builds 4x4 Sudokus, trains EqR on
# them, evaluates depth and breadth on unseen puzzles, draws accuracy_vs_depth.png and solves one puzzle.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset VIRTUAL_ENV NPROC_PER_NODE
bash scripts/install.sh
python=.venv/bin/python
data=data/sudoku-4x4

[ -f $data/identifiers.json ] ||
  $python -m dataset.build_sudoku_dataset --source generate --size 4 \
    --train-samples 4605 --test-samples 1000 --output-dir $data

echo "training EqR on 4x4 Sudoku (about half a minute)" >&2
run=$(OMP_NUM_THREADS=1 bash scripts/train.sh quickstart "$@" | sed -n 's/^done: //p')

bash scripts/eval.sh "$run" "halt_max_steps=[1,2,4,8,16]" eval_dir="$run/breadth_1"
bash scripts/eval.sh "$run" "halt_max_steps=[1,2,4,8]" different_init=8 convergence_top_k=1 max_puzzles=250 \
  eval_dir="$run/breadth_8"
$python -m evaluation.report "$run/breadth_1" "$run/breadth_8"

echo "one puzzle:"
$python solve.py 2....4.3.......4 --checkpoint "$run"
