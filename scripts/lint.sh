#!/usr/bin/env bash
# Sets up what is missing and checks the code without running it: ruff, mypy, and which package imports which.
# shellcheck source=scripts/_setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"

make_venv_for_tests
say "ruff ..."
.venv/bin/ruff check --quiet
.venv/bin/ruff format --quiet --check
say "mypy ..."
.venv/bin/mypy
say "import-linter ..."
contracts=$(.venv/bin/lint-imports 2>&1) || {
    say "$contracts"
    exit 1
}
