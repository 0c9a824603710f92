#!/bin/sh
# The server with the options of TRITON_CLICKHOUSE_OPTIONS, each in a file of its own that is read after all others.
set -eu
# shellcheck source=docker/options/options.sh
. /etc/triton-env/options.sh

number=0
# write_option PATH VALUE: profiles, quotas and users are in files of their own (https://clickhouse.com/docs/operations/configuration-files).
write_option() {
    number=$((number + 1))
    case $1 in
    profiles.* | quotas.* | users.*) folder=users.d ;;
    *) folder=config.d ;;
    esac
    rest=$1.
    opened='' closed=''
    while [ -n "$rest" ]; do
        opened="$opened<${rest%%.*}>"
        closed="</${rest%%.*}>$closed"
        rest=${rest#*.}
    done
    value=$(printf '%s' "$2" | sed 's/&/\&amp;/g; s/</\&lt;/g')
    printf '<clickhouse>%s%s%s</clickhouse>\n' "$opened" "$value" "$closed" \
        >"/etc/clickhouse-server/$folder/triton-option-$number.xml"
}

each_option "${TRITON_CLICKHOUSE_OPTIONS:-}" write_option
exec /entrypoint.sh
