#!/bin/sh
# Runs TorchServe with the archive, until interrupted. See scripts/serve.sh --help
python="$(dirname -- "$0")/../.venv/bin/python"
[ -x "$python" ] || {
  echo "error: not set up yet: run make setup first" >&2
  exit 1
}
exec "$python" -P -m pipeline serve "$@"
