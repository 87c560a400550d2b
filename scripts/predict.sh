#!/bin/sh
# Classifies images with a server: KServe v1 predict calls. See scripts/predict.sh --help
exec "$(dirname -- "$(readlink -f -- "$0")")/run" predict "$@"
