#!/bin/sh
# Deploys a published version on KServe. See scripts/deploy.sh --help
exec "$(dirname -- "$(readlink -f -- "$0")")/run" deploy "$@"
