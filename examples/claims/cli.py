"""The command line of the walk-through. What is slow to import waits until the options are known to be good."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from triton_env.core.commands import runnable

HOW_TO_RUN = "python examples/claims_walkthrough.py"
_PLACES = ("DATABASE_URL", "CLICKHOUSE_HOST", "REDIS_URL", "AWS_ENDPOINT_URL")

_DESCRIPTION = """\
Two million synthetic health claims through four services: into ClickHouse in batches, analysed there; monthly books and
a model of care programmes in PostgreSQL; job updates over Redis; a report with a plot and a CSV in S3. In the end the
totals of all stores are compared, to the row and to the cent.
"""
_EPILOG = f"""\
The services are found by DATABASE_URL, CLICKHOUSE_HOST, CLICKHOUSE_HTTP_PORT, CLICKHOUSE_USER, CLICKHOUSE_PASSWORD,
CLICKHOUSE_DB, REDIS_URL, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION and S3_BUCKET.
Where none of DATABASE_URL, CLICKHOUSE_HOST, REDIS_URL and AWS_ENDPOINT_URL is set, it runs on services of its own:

    {HOW_TO_RUN}

is then the same as `python -m triton_env run -- {HOW_TO_RUN}`.

Each run replaces what the one before has left: the ClickHouse table and the PostgreSQL schema `claims_walkthrough`,
the Redis key and the S3 objects that begin with `claims-walkthrough`. Nothing else is touched.

Exit status: 0 all stores agree, 1 they do not or a service failed, 2 wrong use.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the walk-through; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        from claims import app
    except ModuleNotFoundError as error:
        if error.name not in ("matplotlib", "numpy"):
            raise
        hint = runnable("pip install 'triton-env[examples]'")
        print(f"error: {error.name} is not installed\n\nhint: {hint}", file=sys.stderr)
        return 2
    # After everything that does not need services: they take a while.
    if not any(os.environ.get(name) for name in _PLACES):
        command = [sys.executable, "-m", "triton_env", "run", "--", sys.executable]
        os.execv(sys.executable, [*command, sys.argv[0], *(sys.argv[1:] if arguments is None else arguments)])
    try:
        return app.run(options.rows, options.seed, options.output)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=_positive, default=2_000_000, help="claims to make (default: %(default)s)")
    parser.add_argument("--seed", type=_seed, default=20260101, help="same seed, same claims (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="also save the report's files in this folder")
    return parser


def _positive(text: str) -> int:
    number = int(text.replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _seed(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("at least 0")
    return number
