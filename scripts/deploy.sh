#!/bin/sh
# Deploys a published version on KServe. See scripts/deploy.sh --help
root=$(cd -- "$(dirname -- "$0")/.." && pwd)
[ -x "$root/.venv/bin/python" ] || {
  echo "error: not set up yet: run make setup first" >&2
  exit 1
}
PYTHONPATH=$root exec "$root/.venv/bin/python" -P -m pipeline deploy "$@"
