#!/bin/sh
# Classifies images with a server. See scripts/predict.sh --help
exec "$(dirname -- "$(readlink -f -- "$0")")/run" predict "$@"
