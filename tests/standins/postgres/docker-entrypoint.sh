#!/bin/bash
# What the official image does at its start, so that what holds here holds there:
# a first start initialises the data directory through a temporary server that only the Unix socket reaches;
# a directory that holds a cluster is never touched again, whatever the environment says by then.
set -Eeuo pipefail
shopt -s nullglob

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
die() { printf 'Error: %s\n' "$*" >&2; exit 1; }

# NAME, or the content of the file named by NAME_FILE, or a default.
from_environment() {
    local name=$1 default=${2:-} file_name="${1}_FILE"
    local value=${!name:-} file=${!file_name:-}
    [[ -z $value || -z $file ]] || die "both $name and $file_name are set, of which only one can count"
    [[ -z $file ]] || value=$(< "$file")
    export "$name=${value:-$default}"
    unset "$file_name"
}

wants_information_only() {
    local argument
    for argument in "$@"; do
        case "$argument" in -\? | --help | --describe-config | -V | --version) return 0 ;; esac
    done
    return 1
}

prepare_directories() {
    mkdir -p "$PGDATA" /var/run/postgresql
    chmod 00700 "$PGDATA" || :
    chmod 03775 /var/run/postgresql || :
    if [[ $(id -u) == 0 ]]; then
        find "$PGDATA" ! -user postgres -exec chown postgres '{}' +
        find /var/run/postgresql ! -user postgres -exec chown postgres '{}' +
    fi
}

require_password() {
    if [[ -z $POSTGRES_PASSWORD && $POSTGRES_HOST_AUTH_METHOD != trust ]]; then
        die "Database is uninitialized and superuser password is not specified.
       Set POSTGRES_PASSWORD to a non-empty value, for example \"docker run -e POSTGRES_PASSWORD=...\".
       POSTGRES_HOST_AUTH_METHOD=trust would let everybody in without a password."
    fi
    if [[ $POSTGRES_HOST_AUTH_METHOD == trust ]]; then
        echo 'WARNING: POSTGRES_HOST_AUTH_METHOD is "trust": whoever reaches the port is let in without a password.' >&2
    fi
}

initialise_cluster() {
    # POSTGRES_INITDB_ARGS is a command line by contract, quotes included.
    eval 'initdb --username="$POSTGRES_USER" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") '"$POSTGRES_INITDB_ARGS"' -D "$PGDATA"'
    local method=${POSTGRES_HOST_AUTH_METHOD:-$(postgres -C password_encryption -D "$PGDATA")}
    printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
}

sql() {
    PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$POSTGRES_USER" "$@"
}

start_temporary_server() {
    # An empty listen_addresses keeps TCP shut: nobody may take the half-made database for the real one.
    local options
    options=$(printf '%q ' "$@" -c listen_addresses='' -p "${PGPORT:-5432}")
    PGUSER=$POSTGRES_USER NOTIFY_SOCKET='' pg_ctl -D "$PGDATA" -o "$options" -w start
}

create_database() {
    [[ $POSTGRES_DB != postgres ]] || return 0
    local exists
    exists=$(sql --dbname postgres --tuples-only --set db="$POSTGRES_DB" <<< "SELECT 1 FROM pg_database WHERE datname = :'db'")
    [[ -n $exists ]] || sql --dbname postgres --set db="$POSTGRES_DB" <<< 'CREATE DATABASE :"db"'
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
            *.sql) say "running $file"; sql --dbname "$POSTGRES_DB" -f "$file" ;;
            *.sql.gz) say "running $file"; gunzip -c "$file" | sql --dbname "$POSTGRES_DB" ;;
            *.sql.xz) say "running $file"; xzcat "$file" | sql --dbname "$POSTGRES_DB" ;;
            *.sql.zst) say "running $file"; zstd -dc "$file" | sql --dbname "$POSTGRES_DB" ;;
            *) say "ignoring $file" ;;
        esac
    done
}

first_start() {
    require_password
    ls /docker-entrypoint-initdb.d/ > /dev/null
    initialise_cluster
    export PGPASSWORD=$POSTGRES_PASSWORD
    start_temporary_server "$@"
    create_database
    run_init_files
    PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -m fast -w stop
    unset PGPASSWORD
    printf '\nPostgreSQL init process complete; ready for start up.\n\n'
}

if [[ ${1:-} == -* ]]; then
    set -- postgres "$@"
fi
if [[ ${1:-} == postgres ]] && ! wants_information_only "$@"; then
    prepare_directories
    if [[ $(id -u) == 0 ]]; then
        exec gosu postgres "$0" "$@"
    fi
    from_environment POSTGRES_PASSWORD
    from_environment POSTGRES_USER postgres
    from_environment POSTGRES_DB "$POSTGRES_USER"
    from_environment POSTGRES_INITDB_ARGS
    : "${POSTGRES_HOST_AUTH_METHOD:=}"
    if [[ -s $PGDATA/PG_VERSION ]]; then
        printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
    else
        first_start "${@:2}"
    fi
fi
exec "$@"
