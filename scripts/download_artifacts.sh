#!/usr/bin/env bash
# Download built data sets, and checkpoints if asked: bash scripts/download_artifacts.sh --help
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"
exec "$python" "$root/dataset/download.py" "$@"
