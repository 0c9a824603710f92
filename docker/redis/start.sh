#!/bin/sh
# Everything comes on standard input, so that the password is no argument, which every user of the machine could read.
set -eu
if [ "$(printf %s "$REDIS_PASSWORD" | tr -d '[:cntrl:]')" != "$REDIS_PASSWORD" ]; then
    echo 'REDIS_PASSWORD may not hold line breaks and other control characters.' >&2
    exit 1
fi
# shellcheck source=docker/options/options.sh
. /etc/triton-env/options.sh

# As a line of the configuration; one that takes several words gets each by itself.
print_option() {
    printf '%s %s\n' "$1" "${2:-\"\"}"
}

password=$(printf '%s' "$REDIS_PASSWORD" | sed 's/[\\"]/\\&/g')
exec docker-entrypoint.sh redis-server - <<END
$(cat /etc/redis/redis.conf)
# For namespaces, each of which has a logical database. Idle ones cost less than 500 bytes each.
databases 1024
requirepass "$password"
$(each_option "${TRITON_REDIS_OPTIONS:-}" print_option)
END
