#!/usr/bin/env bash
# Starts the persistent services and leaves them running: with Docker those of docker-compose.yml, where no engine answers
# as processes. Fine to run again at any time.
# Arguments go to `python -m triton_env up`: try --help.
# shellcheck source=scripts/_setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"

make_venv_for_persistent_services
exec .venv/bin/python -m triton_env up "$@"
