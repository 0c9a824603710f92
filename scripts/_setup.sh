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

# make_venv [uv sync options]: .venv with exactly what uv.lock says. Quick when nothing changed.
make_venv() {
    local python uv
    python=$(find_python)
    if command -v uv >/dev/null; then
        uv=uv
    else
        if ! .venv/bin/python -c '' 2>/dev/null; then
            say "Making a virtual environment in .venv ..."
            "$python" -m venv --clear .venv
        fi
        .venv/bin/python -m uv --version >/dev/null 2>&1 || .venv/bin/python -m pip install --quiet uv
        # With its own interpreter, or uv would replace the environment in which it runs.
        python=.venv/bin/python
        uv="$python -m uv"
    fi
    # Bytecode is compiled in advance once for each lock file: looking whether all is compiled takes seconds.
    local compiled=.venv/.compiled compile=--compile-bytecode
    if [[ $compiled -nt uv.lock ]]; then compile=; fi
    # --inexact: leave what somebody added by hand, and uv itself where it lives in .venv.
    UV_PYTHON_DOWNLOADS=never $uv sync --quiet --frozen --inexact ${compile:+"$compile"} --python "$python" "$@"
    touch "$compiled"
}

# .venv for the persistent services: with Docker Compose where this machine has none that is new enough.
make_venv_for_compose() {
    make_venv --no-dev
    if ! .venv/bin/python -c 'from triton_env.runtimes.compose import compose_program; compose_program()' 2>/dev/null; then
        say "There is no Docker Compose that is new enough: getting one into .venv ..."
        make_venv --no-dev --extra compose
    fi
}

# Whether a Docker engine answers; if not, the reason is shown.
engine_answers() {
    .venv/bin/python - <<'END'
import sys

from triton_env.errors import RuntimeUnavailable
from triton_env.runtimes.engine import Engine

try:
    Engine().close()
except RuntimeUnavailable as error:
    sys.exit(str(error))
END
}

# Whether `serve` would run without Docker: since it was told to, or since Docker cannot be used here.
embedded_is_needed() {
    .venv/bin/python - <<'END'
import sys

from triton_env.errors import TritonError
from triton_env.runtimes.choice import docker_problem
from triton_env.services import SERVICES
from triton_env.settings import Settings

try:
    settings = Settings()
    recipes = [service.recipe(settings) for service in SERVICES.values()]
    match settings.triton_runtime:
        case "embedded":
            needed = True
        case "auto":
            needed = bool(docker_problem(settings, recipes))
        case _:
            needed = False
except TritonError:
    # `serve` will say it better.
    needed = False
sys.exit(not needed)
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
