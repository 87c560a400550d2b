#!/bin/sh
# Builds model-store/alexnet.mar. See scripts/package.sh --help
exec "$(dirname -- "$(readlink -f -- "$0")")/run" package "$@"
