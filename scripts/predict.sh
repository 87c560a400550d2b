#!/bin/sh
# Classifies images with a server: KServe v1 predict calls. See scripts/predict.sh --help
root=$(cd -- "$(dirname -- "$0")/.." && pwd)
[ -x "$root/.venv/bin/python" ] || {
  echo "error: not set up yet: run make setup first" >&2
  exit 1
}
PYTHONPATH=$root exec "$root/.venv/bin/python" -P -m pipeline predict "$@"
