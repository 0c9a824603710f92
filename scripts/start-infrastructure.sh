#!/usr/bin/env bash
# Starts the persistent services of docker-compose.yml and leaves them running; fine to run again at any time.
# Arguments go to `python -m triton_env up`: try --help.
# shellcheck source=scripts/_setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"

make_venv_for_compose
exec .venv/bin/python -m triton_env up "$@"
