#!/usr/bin/env bash
# The page that solves in the browser (docs/web.md): builds it into web/dist and serves it on localhost.
#   bash scripts/web.sh [PORT]     default 8000
#   bash scripts/web.sh --check    builds, tests in headless Chromium, and exits
# Once built, it needs no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/_environment.sh
port=${1-8000}
[ "$port" = --check ] || number port 1 65535
{ node -e 'process.exit(parseInt(process.version.slice(1)) < 18 ? 1 : 0)' && command -v npm; } >/dev/null 2>&1 ||
  { echo "error: Node.js 18 or newer with npm is needed (on Debian and Ubuntu: apt install nodejs npm)" >&2; exit 1; }

[ web/node_modules/.package-lock.json -nt web/package-lock.json ] ||
  npm ci --prefix web --ignore-scripts --no-audit --no-fund --loglevel=error >&2
mkdir -p web/dist/models
model() {  # the name of a task, its checkpoint
  local file=web/dist/models/$1.onnx checkpoint=checkpoints/$2/last.safetensors
  [ -z "$(find "$checkpoint" solving/export.py solving/onnx_*.py -newer "$file" 2>&1)" ] ||
    "$python" -m solving.export "$checkpoint" "$file" --precision float16 >&2
}
model sudoku sudoku
model maze maze_unique_small
node web/build.mjs

[ "$port" = --check ] || exec node web/serve.mjs "$port"
PYTHON=$python exec node --test web/tests/*.js
