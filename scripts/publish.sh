#!/bin/sh
# Publishes the archive to Cloud Storage. See scripts/publish.sh --help
root=$(cd -- "$(dirname -- "$0")/.." && pwd)
[ -x "$root/.venv/bin/python" ] || {
  echo "error: not set up yet: run make setup first" >&2
  exit 1
}
PYTHONPATH=$root exec "$root/.venv/bin/python" -P -m pipeline publish "$@"
