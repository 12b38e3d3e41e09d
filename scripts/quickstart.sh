#!/usr/bin/env bash
# From nothing to a reasoner in a few minutes on two CPU cores: installs, builds 4x4 Sudokus, trains EqR on them,
# evaluates depth and breadth on unseen puzzles, draws accuracy_vs_depth.png and solves one puzzle.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset VIRTUAL_ENV NPROC_PER_NODE
bash scripts/install.sh
python=.venv/bin/python
data=data/sudoku-4x4

[ -f $data/identifiers.json ] ||
  $python -m dataset.build_sudoku_dataset --source generate --size 4 \
    --train-samples 4605 --test-samples 1000 --output-dir $data

echo "training EqR on 4x4 Sudoku (about a minute on two cores)" >&2
run=$(bash scripts/train.sh quickstart "$@" | sed -n 's/^done: //p')

for breadth in 1 8; do
  bash scripts/eval.sh "$run" "halt_max_steps=[1,2,4,8,16]" different_init=$breadth \
    "convergence_top_k=$([ $breadth = 1 ] && echo null || echo 1)" eval_dir="$run/breadth_$breadth"
done
$python -m evaluation.report "$run/breadth_1" "$run/breadth_8"

echo "one puzzle:"
$python solve.py 2....4.3.......4 --checkpoint "$run"
