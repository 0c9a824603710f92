"""The S3 server: moto's, as a process of its own.

It keeps objects in memory, so it has no data directory. What moto answers differently from LocalStack is in the
table of differences in the documentation.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m triton_env.runtimes.embedded.s3", description="moto's S3 server.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=4566, help="port to listen on (default: %(default)s)")
    options = parser.parse_args()

    # Otherwise the first request would load it, and wait for that.
    import moto.s3.responses  # noqa: F401
    import werkzeug.serving
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from moto.server import main as serve

    # It colours its log, whether or not a terminal shows it.
    werkzeug.serving._log_add_style = False
    MotoRequestHandler.server_version = f"moto/{version('moto')}"  # type: ignore[assignment]
    serve(["--host", options.host, "--port", str(options.port)])


if __name__ == "__main__":
    main()
