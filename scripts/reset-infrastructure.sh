#!/usr/bin/env bash
# Destroys the persistent services with all their data; asks before. Arguments go to `python -m triton_env reset`: try
# --help.
# shellcheck source=scripts/_setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"

make_venv_for_persistent_services
exec .venv/bin/python -m triton_env reset "$@"
