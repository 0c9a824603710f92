#!/bin/sh
# The server with the options of TRITON_POSTGRES_OPTIONS after those of this file, which give way to them.
set -eu
# shellcheck source=docker/options/options.sh
. /etc/triton-env/options.sh

arguments=
# add_option NAME VALUE: as an argument, quoted for the shell.
add_option() {
    arguments="$arguments -c '$(printf '%s' "$1=$2" | sed "s/'/'\\\\''/g")'"
}

add_option shared_buffers 64MB
add_option max_connections 100
each_option "${TRITON_POSTGRES_OPTIONS:-}" add_option
eval "exec docker-entrypoint.sh postgres $arguments"
