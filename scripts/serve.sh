#!/usr/bin/env bash
# Sets up everything that is missing and runs the four services until Ctrl-C.
# Arguments go to `python -m triton_env serve`: try --help.
# shellcheck source=scripts/_setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"

make_venv --no-dev
if engine_answers; then
    choose_images
fi
exec .venv/bin/python -m triton_env serve "$@"
