# Short names for the scripts: `just` lists them. They set up what is missing themselves.

_default:
    @just --list

# Start the four services and keep them until Ctrl-C.
serve *arguments:
    bash scripts/serve.sh {{arguments}}

# Check the code without running it.
lint:
    bash scripts/lint.sh

# Check and test everything but the long lane. Arguments go to pytest.
test *arguments:
    bash scripts/test.sh {{arguments}}

# Check and test everything.
test-all *arguments:
    bash scripts/test.sh --all {{arguments}}

# The tests that need neither Docker nor a server.
test-unit *arguments:
    bash scripts/test.sh tests/unit {{arguments}}

# Format the source and fix what ruff can fix.
format:
    .venv/bin/ruff check --fix
    .venv/bin/ruff format

# Rewrite .env.example and the tables of docs/reference/settings.md from where settings are declared.
settings:
    .venv/bin/python scripts/settings_tables.py

# Rewrite the table of S3 servers in docs/reference/runtimes.md from the answers that a test expects of them.
s3-table:
    .venv/bin/python scripts/s3_table.py

# Rewrite the tables of what differs from the images in docs/reference/runtimes.md from the answers of a test.
differences-tables:
    .venv/bin/python scripts/differences_tables.py

# Rewrite the table of docs/how-to/choose-where-it-runs.md from the places that the tests describe.
places-table:
    .venv/bin/python scripts/places_table.py

# Rewrite the tables of docs/reference/inspection.md from the data that an inspection is.
inspection-tables:
    .venv/bin/python scripts/inspection_tables.py

# Rewrite the table of docs/architecture.md from the docstrings of the packages.
packages-table:
    .venv/bin/python scripts/packages_table.py

# Take the pictures of docs/how-to/dashboard.md again, of an environment that has worked for some minutes.
dashboard-images:
    .venv/bin/python scripts/dashboard_screenshots.py

# Rewrite docs/llms.txt, the list of documents for agents.
llms-txt:
    .venv/bin/python scripts/llms_txt.py

# Rewrite tests/public_surface.txt, for review with the change.
surface:
    .venv/bin/python tests/public_surface.py --write

# Collect the news fragments of changelog.d into CHANGELOG.md.
changelog version:
    .venv/bin/towncrier build --yes --version {{version}}
