#!/usr/bin/env bash
# Shows how the persistent services are; exit status 0 if all four answer, else 1. Arguments go to
# `python -m triton_env status`: try --help.
# shellcheck source=scripts/_setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"

make_venv --no-dev
exec .venv/bin/python -m triton_env status --persistent "$@"
