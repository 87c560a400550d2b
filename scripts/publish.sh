#!/bin/sh
# Publishes the archive to Cloud Storage. See scripts/publish.sh --help
exec "$(dirname -- "$(readlink -f -- "$0")")/run" publish "$@"
