#!/bin/sh
# Classifies images with a server: KServe v1 predict calls. See scripts/predict.sh --help
python="$(dirname -- "$0")/../.venv/bin/python"
[ -x "$python" ] || {
  echo "error: not set up yet: run make setup first" >&2
  exit 1
}
exec "$python" -P -m pipeline predict "$@"
