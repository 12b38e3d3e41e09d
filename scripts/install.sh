#!/usr/bin/env bash
# Makes the virtual environment .venv and installs requirements.txt into it, or the file given.
#   bash scripts/install.sh [requirements-dev.txt]
# Once that is done it does nothing and needs no network. PYTHON=python3.12 picks the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."  # "-e ." in requirements.txt means the folder that pip runs in
root=$PWD
wanted=${1:-requirements.txt}
venv=$root/.venv
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2])' ||
  { echo "error: $python is $("$python" --version 2>&1), but Python 3.11 or newer is needed; set PYTHON=" >&2; exit 1; }

stamp=$venv/installed-$wanted
state=$(sed '/^\[tool/,$d' pyproject.toml | cat - constraints.txt | cksum)
[ "$(cat "$stamp" 2>/dev/null || true)" = "$state" ] && exit 0

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" ||
  { echo "error: could not make a virtual environment in $venv (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
  torch=$(sed -n 's/^torch==//p' constraints.txt)
  if [ "$(uname)" = Linux ] && ! nvidia-smi >/dev/null 2>&1; then
    # Without a GPU the CPU build saves gigabytes. Where pip finds no such build, uv knows where PyTorch keeps it.
    echo "no GPU found: installing torch $torch for the CPU" >&2
    pip install "torch==$torch+cpu" 2>/dev/null ||
      { pip install uv && "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --torch-backend cpu "torch==$torch"; } ||
      pip install "torch==$torch"
  else
    echo "installing torch $torch" >&2
    pip install "torch==$torch"
  fi
fi
echo "installing $wanted" >&2
pip install -r "$wanted" -c constraints.txt
echo "$state" | tee "$venv/installed-requirements.txt" > "$stamp"  # every list contains the short one
