#!/bin/sh
# Runs TorchServe with the archive, until interrupted. See scripts/serve.sh --help
exec "$(dirname -- "$(readlink -f -- "$0")")/run" serve "$@"
