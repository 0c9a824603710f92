#!/usr/bin/env bash
# Sets up everything that is missing and runs all checks and tests. Arguments go to pytest.
# shellcheck source=scripts/_setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"

make_venv --all-extras --all-groups
if engine_answers; then
    choose_images
fi

say "ruff ..."
.venv/bin/ruff check --quiet
.venv/bin/ruff format --quiet --check
say "mypy ..."
.venv/bin/mypy
# The tests of a module share environments, so they stay in one process. `-n 0` runs all one by one.
exec .venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadfile "$@"
