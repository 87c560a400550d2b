#!/bin/sh
# Builds model-store/NAME.mar of a classifier. See scripts/package.sh --help
exec "$(dirname -- "$(readlink -f -- "$0")")/run" package "$@"
