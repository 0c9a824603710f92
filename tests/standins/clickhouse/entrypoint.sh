#!/bin/bash
# What the official image does at its start, with another server behind it: users are set up on every start; a first
# start with a database to make or files to run goes through a temporary server that listens on 127.0.0.1 alone.
set -eo pipefail
shopt -s nullglob

DATA=/var/lib/clickhouse
USERS=/etc/clickhouse-server/users.d/default-user.json

say() { printf '%s: %s\n' "$0" "$*"; }

# NAME, or the content of the file named by NAME_FILE, or a default.
from_environment() {
    local name=$1 default=$2 file_name="${1}_FILE"
    [[ -z ${!file_name} ]] || export "$name=$(< "${!file_name}")"
    export "$name=${!name:-$default}"
}

# As JSON; shell quoting is no match for a password.
users_file() {
    python3 -c 'import json, sys; name, password, *networks = sys.argv[1:]
print(json.dumps([{"name": name, "password": password} | ({"networks": networks} if networks else {})]))' "$@"
}

set_up_users() {
    if [[ ${CLICKHOUSE_SKIP_USER_SETUP:-0} == 1 ]]; then
        say "explicitly skip changing user 'default'"
        users_file default '' > "$USERS"
    elif [[ $CLICKHOUSE_USER != default || -n $CLICKHOUSE_PASSWORD || ${CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT:-0} != 0 ]]; then
        say "create new user '$CLICKHOUSE_USER' instead 'default'"
        users_file "$CLICKHOUSE_USER" "$CLICKHOUSE_PASSWORD" > "$USERS"
    else
        say "neither CLICKHOUSE_USER nor CLICKHOUSE_PASSWORD is set, disabling network access for user 'default'"
        users_file default '' 127.0.0.1/32 ::1/128 > "$USERS"
    fi
}

# The server, listening on one address.
server_command() {
    server=("${drop[@]}" env PYTHONPATH=/opt/clickhouse/lib /opt/clickhouse/.venv/bin/python
        -m triton_env.servers.clickhouse
        --host "$1" --port 8123 --native-port 9000 --path "$DATA" --users-file "$USERS" --database default)
}

run_init_files() {
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case "$file" in
            *.sh)
                if [[ -x $file ]]; then
                    say "running $file"
                    "$file"
                else
                    say "sourcing $file"
                    # shellcheck source=/dev/null
                    . "$file"
                fi ;;
            *.sql) say "running $file"; run-sql < "$file" ;;
            *.sql.gz) say "running $file"; gunzip -c "$file" | run-sql ;;
            *) say "ignoring $file" ;;
        esac
    done
}

first_start() {
    local pid tries=${CLICKHOUSE_INIT_TIMEOUT:-1000}
    server_command 127.0.0.1
    "${server[@]}" &
    pid=$!
    until wget --spider -T 1 -q http://127.0.0.1:8123/ping; do
        if ((tries-- <= 0)) || ! kill -0 "$pid" 2> /dev/null; then
            echo 'ClickHouse init process failed.' >&2
            exit 1
        fi
        sleep 0.1
    done
    if [[ -n $CLICKHOUSE_DB ]]; then
        say "create database '$CLICKHOUSE_DB'"
        # Without quotes, as in the official image: a name that needs them fails here.
        run-sql <<< "CREATE DATABASE IF NOT EXISTS $CLICKHOUSE_DB"
    fi
    run_init_files
    if ! kill -s TERM "$pid" || ! wait "$pid"; then
        echo 'Finishing of ClickHouse init process failed.' >&2
        exit 1
    fi
}

if [[ $# -gt 0 && $1 != --* ]]; then
    exec "$@"
fi
if [[ $# -gt 0 ]]; then
    echo "this stand-in for ClickHouse takes no server options, but was given: $*" >&2
    exit 2
fi

from_environment CLICKHOUSE_USER default
from_environment CLICKHOUSE_PASSWORD ''
from_environment CLICKHOUSE_DB ''
mkdir -p "$DATA"
drop=()
if [[ $(id -u) == 0 ]]; then
    drop=(setpriv --reuid clickhouse --regid clickhouse --clear-groups)
    [[ $(stat -c %U "$DATA") == clickhouse ]] || chown -R clickhouse:clickhouse "$DATA"
fi
set_up_users
already=''
[[ ! -d $DATA/data ]] || already=yes
# The official server makes this folder whenever it starts, the engine only for its first table.
"${drop[@]}" mkdir -p "$DATA/data"
if [[ -n $already && -z ${CLICKHOUSE_ALWAYS_RUN_INITDB_SCRIPTS:-} ]]; then
    echo 'ClickHouse Database directory appears to contain a database; Skipping initialization'
elif [[ -n $CLICKHOUSE_DB || -n $(ls /docker-entrypoint-initdb.d/) ]]; then
    first_start
fi
server_command 0.0.0.0
exec "${server[@]}"
