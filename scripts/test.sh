#!/usr/bin/env bash
# Sets up everything that is missing and runs all checks and tests but those of the long lane.
#
#     bash scripts/test.sh [--all] [pytest arguments]
#
# --all adds the long lane: random kills, soak, fuzzing, races of eight processes, benchmark scripts, the whole
# documentation matrix, and further variants of what one variant shows. It takes much longer, and is for changes to these
# parts and for nightly runs.
#
# Arguments go to pytest. A file that is named runs with its long tests, and `-m long` runs the long lane alone:
#
#     bash scripts/test.sh tests/unit -x          a folder
#     bash scripts/test.sh -k postgres            by what is in the name of a test, of its file, or of its variant
#     bash scripts/test.sh -m docker              those that need a Docker engine
# shellcheck source=scripts/_setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"

for argument in "$@"; do
    case $argument in
    -h | --help)
        sed -n '2,/^# shellcheck/ { /^# shellcheck/d; s/^# \{0,1\}//; p; }' scripts/test.sh
        exit
        ;;
    esac
done

make_venv_for_tests
if engine_answers; then
    choose_images
fi
step "Looking for the ssh of the tests" .venv/bin/python tests/ssh_server.py
step "Looking for the browser of the dashboard's tests" .venv/bin/python tests/browser.py

bash scripts/lint.sh
# `tests/lanes.py` keeps together what shares an environment. `-n 0` runs all tests one by one.
# Compiled modules are kept: hundreds of processes import the same ones.
unset PYTHONDONTWRITEBYTECODE
exec .venv/bin/python -m pytest -n auto --dist loadgroup --durations 25 "$@"
