#!/usr/bin/env bash
# Stops the persistent services; their data stays. Arguments go to `python -m triton_env down`: try --help.
# shellcheck source=scripts/_setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"

make_venv_for_persistent_services
exec .venv/bin/python -m triton_env down "$@"
