# To be sourced. Sets `root`, and `python`: the first that has the packages, of an active environment (venv or conda), of
# .venv and of the PATH. Programs find this repository's packages from any folder. `launch` runs a program in
# NPROC_PER_NODE processes (default 1) on each of NNODES hosts (default 1).
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

has_packages() {
  "$1" -c 'import sys; from importlib.util import find_spec as f; sys.exit(not all(map(f, ["hydra", "pydantic", "torch"])))' \
    >/dev/null 2>&1
}

active=${VIRTUAL_ENV:-}
[ -n "$active" ] || [ "${CONDA_DEFAULT_ENV:-base}" = base ] || active=${CONDA_PREFIX:-}
active=${active:+$active/bin/python}
for python in ${active:+"$active"} "$root/.venv/bin/python" python3; do
  ! has_packages "$python" || break
  python=
done
[ -n "$python" ] ||
  { echo "error: no Python has the packages that pyproject.toml lists; bash scripts/install.sh makes one that has" >&2; exit 1; }
[ "$python" = "${active:-$python}" ] ||
  echo "note: $active lacks packages that pyproject.toml lists; using $python" >&2

refuse() { echo "error: $1" >&2; exit 1; }

number() {  # NAME SMALLEST [LARGEST]
  [[ ${!1} =~ ^[0-9]{1,9}$ ]] && [ "${!1}" -ge "$2" ] && [ "${!1}" -le "${3:-999999999}" ] ||
    refuse "$1 should be a whole number from $2 $([ $# -lt 3 ] && echo on || echo "to $3"), but it is '${!1}'"
}

launch() {
  local program=$1 where=(--standalone) name
  shift
  NPROC_PER_NODE=${NPROC_PER_NODE-1} MAX_RESTARTS=${MAX_RESTARTS-0}
  number NPROC_PER_NODE 1
  number MAX_RESTARTS 0
  [ -z "${JOIN_SECONDS+set}" ] || number JOIN_SECONDS 1
  [ -z "${NNODES+set}" ] || number NNODES 1
  if [ "${NNODES:-1}" != 1 ]; then
    for name in NODE_RANK MASTER_ADDR; do
      [ -n "${!name:-}" ] || refuse "NNODES=$NNODES, but $name is not set: each host needs its own NODE_RANK from 0 on, and the MASTER_ADDR of host 0"
    done
    export MASTER_PORT=${MASTER_PORT-29500}
    number NODE_RANK 0
    number MASTER_PORT 1 65535
    [ "$NODE_RANK" -lt "$NNODES" ] || refuse "NODE_RANK=$NODE_RANK should be below NNODES=$NNODES: the first host is 0"
    where=(--nnodes="$NNODES" --rdzv-backend=c10d --rdzv-endpoint="$MASTER_ADDR:$MASTER_PORT" --rdzv-id=eqr)
  elif [ -z "${NNODES:-}" ] && [ "${WORLD_SIZE:+$NPROC_PER_NODE}" != 1 ]; then  # WORLD_SIZE: somebody else starts them
    for name in WORLD_SIZE NODE_RANK MASTER_ADDR MASTER_PORT; do
      [ -z "${!name:-}" ] || refuse "$name is set, but NNODES is not: several hosts need NNODES, NODE_RANK and MASTER_ADDR, one host none of them"
    done
  elif [ "${NNODES:-}" = 1 ]; then
    [ "${NODE_RANK:-0}" = 0 ] || refuse "NODE_RANK=$NODE_RANK should be below NNODES=1: the first host is 0"
    unset NODE_RANK MASTER_ADDR MASTER_PORT
  fi
  [ "${NNODES:-1} $NPROC_PER_NODE $MAX_RESTARTS" != "1 1 0" ] || exec "$python" "$root/$program" "$@"
  "$python" "$root/$program" --check-only "$@" || exit  # one sentence, instead of one from every process
  [ "$MAX_RESTARTS" = 0 ] || where+=(--max-restarts="$MAX_RESTARTS")
  exec "$python" "$root/scripts/launch.py" "${where[@]}" --nproc_per_node="$NPROC_PER_NODE" "$root/$program" "$@"
}
