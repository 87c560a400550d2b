#!/bin/sh
# Compares two archives, versions or servers on the same pictures. See scripts/compare.sh --help
exec "$(dirname -- "$(readlink -f -- "$0")")/run" compare "$@"
