# To be sourced. Sets `root`, and `python`: an active virtual environment's, else .venv's, else python3. Programs find
# this repository's packages from any folder. `launch` runs a program in NPROC_PER_NODE processes (default 1).
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
if [ -n "${VIRTUAL_ENV:-}" ]; then python=$VIRTUAL_ENV/bin/python
elif [ -x "$root/.venv/bin/python" ]; then python=$root/.venv/bin/python
else
  python=python3
  python3 -c 'import hydra, pydantic, torch' 2>/dev/null ||
    { echo "error: no environment has the packages that pyproject.toml lists; bash scripts/install.sh makes one" >&2; exit 1; }
fi

launch() {
  local program=$1 processes=${NPROC_PER_NODE:-1}
  shift
  case $processes in
    1) exec "$python" "$root/$program" "$@" ;;
    *[!0-9]* | 0 | '') echo "error: NPROC_PER_NODE should be a positive number, but it is '$processes'" >&2; exit 1 ;;
    *)
      "$python" "$root/$program" --check-only "$@" || exit  # one sentence, instead of one from every process
      exec "$python" "$root/scripts/launch.py" --standalone --nproc_per_node="$processes" "$root/$program" "$@" ;;
  esac
}
