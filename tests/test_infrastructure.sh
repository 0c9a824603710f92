#!/usr/bin/env bash
# The acceptance run of the persistent services: started, asked by client programs, restarted, stopped, all by the
# scripts that people use. In a project of its own, so that no other data is touched; it is removed in the end.
#
#     bash tests/test_infrastructure.sh
#
# Clients are those of this machine where it has them (psql, redis-cli, aws, curl), else those in the containers.
# Prints a line "ok ..." or "not ok ..." for each check. Exit status: 0 if all are ok, else 1.
# shellcheck source=scripts/_setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/_setup.sh"

# Official images where they can be had, or those that the caller names; else stand-ins.
if [ -z "${POSTGRES_IMAGE:-}" ] || [ -z "${CLICKHOUSE_IMAGE:-}" ] || [ -z "${REDIS_IMAGE:-}" ] ||
    [ -z "${LOCALSTACK_IMAGE:-}" ]; then
    # Else the first script makes it.
    make_venv_for_persistent_services
    choose_images
fi

project=triton-acceptance-$$
work=$(mktemp -d)
export TRITON_PROJECT=$project TRITON_STATE_DIR=$work/state TRITON_RUNTIME=docker
failed=0
number=0

remove() {
    scripts/reset-infrastructure.sh --yes --no-backup >"$work/reset" 2>&1 || { cat "$work/reset" >&2; failed=1; }
    if docker ps --all --quiet --filter "label=com.docker.compose.project=$project" | grep -q .; then
        say "Containers of $project are left."
        failed=1
    fi
    rm -rf "$work"
}
# An exit of its own, since the trap decides about the status last.
trap 'remove; exit $failed' EXIT
trap 'failed=130; exit' INT TERM

# check NAME COMMAND...: runs it, and shows what it wrote where it fails.
check() {
    local name=$1
    shift
    number=$((number + 1))
    if "$@" >"$work/output" 2>&1; then
        echo "ok $number - $name"
    else
        echo "not ok $number - $name"
        sed 's/^/#   /' "$work/output"
        failed=1
    fi
}

# says WORDS COMMAND...: whether a line of the command's output is exactly that.
says() {
    local words=$1 output
    shift
    output=$("$@") || return
    printf '%s\n' "$output"
    printf '%s\n' "$output" | tr -d '\r' | grep -Fxq -- "$words"
}

# here PROGRAM...: whether this machine has them all.
here() {
    local program
    for program; do
        command -v "$program" >/dev/null || return
    done
}

triton() { .venv/bin/python -m triton_env "$@"; }

sql() {
    if here psql; then
        psql "$DATABASE_URL" -XAtc "$1"
    else
        triton psql -XAtc "$1"
    fi
}

redis() {
    if here redis-cli; then
        REDISCLI_AUTH=$REDIS_PASSWORD redis-cli -h "$REDIS_HOST" -p "$REDIS_PORT" "$@"
    else
        triton redis-cli "$@"
    fi
}

clickhouse_ping() {
    if here curl; then
        curl -fsS --noproxy '*' "http://$CLICKHOUSE_HOST:$CLICKHOUSE_HTTP_PORT/ping"
    else
        # At the container's own address, as its health check does.
        # shellcheck disable=SC2016 # expanded in the container
        docker exec "$project-clickhouse-1" sh -c 'wget -qO- "http://$(hostname):8123/ping"'
    fi
}

clickhouse() {
    # With the password on standard input: arguments can be read by every user of the machine.
    if here curl; then
        printf 'user = "%s:%s"\n' "$CLICKHOUSE_USER" "$CLICKHOUSE_PASSWORD" |
            curl -fsS --noproxy '*' --config - "http://$CLICKHOUSE_HOST:$CLICKHOUSE_HTTP_PORT/" --data-binary "$1"
    else
        triton clickhouse-client --query "$1"
    fi
}

four_healthy() { scripts/check-infrastructure.sh; }

# without_services COMMAND: nothing of the project runs.
nothing_runs() { [ -z "$(docker ps --quiet --filter "label=com.docker.compose.project=$project")" ]; }

s3() { triton s3 "$@"; }

check "the services start" scripts/start-infrastructure.sh
variables=$(triton env --persistent --format shell 2>/dev/null) || variables=
if [ -z "$variables" ]; then
    say "Without running services there is nothing more to see."
    exit
fi
eval "$variables"

check "all four are healthy" four_healthy
check "PostgreSQL answers SELECT 1" says 1 sql "SELECT 1"
check "ClickHouse says Ok." says Ok. clickhouse_ping
check "ClickHouse answers SELECT 1" says 1 clickhouse "SELECT 1"
check "Redis says PONG" says PONG redis ping
check "S3 lists its bucket" bash -c '"$@" | grep -Fq "$S3_BUCKET"' - .venv/bin/python -m triton_env s3 ls

check "PostgreSQL takes data" sql "CREATE TABLE kept AS SELECT 42 AS answer"
check "ClickHouse takes data" clickhouse "CREATE TABLE $CLICKHOUSE_DB.kept ENGINE = MergeTree ORDER BY answer AS SELECT 42 AS answer"
check "Redis takes data" says OK redis set kept 42
echo 42 >"$work/kept"
check "S3 takes data" s3 cp "$work/kept" "s3://$S3_BUCKET/kept"

check "a start that finds all running is fine" scripts/start-infrastructure.sh
check "Redis restarts" triton restart redis
check "Redis has kept its data" says 42 redis get kept
check "PostgreSQL restarts" triton restart postgres
check "PostgreSQL has kept its data" says 42 sql "SELECT answer FROM kept"

check "the services stop" scripts/stop-infrastructure.sh
check "nothing runs any more" nothing_runs
check "a stop that finds nothing is fine" scripts/stop-infrastructure.sh
check "they are not healthy then" bash -c '! scripts/check-infrastructure.sh'

check "the services start again" scripts/start-infrastructure.sh
check "PostgreSQL still has its data" says 42 sql "SELECT answer FROM kept"
check "ClickHouse still has its data" says 42 clickhouse "SELECT answer FROM $CLICKHOUSE_DB.kept"
check "Redis still has its data" says 42 redis get kept
check "S3 still has its data" says 42 s3 cat "s3://$S3_BUCKET/kept"

echo "1..$number"
