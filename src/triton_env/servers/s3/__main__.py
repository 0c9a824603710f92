"""The S3 server's process."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from importlib.metadata import version
from typing import Any

from triton_env.servers.rights import give_up_capabilities


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m triton_env.servers.s3", description="moto's S3 server.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=4566, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--keys",
        default="-",
        help='file with {"access key id": "secret access key"}; `-` for standard input, the default',
    )
    options = parser.parse_args()
    with open(0 if options.keys == "-" else options.keys, encoding="utf-8") as file:
        keys = json.load(file)

    # It would let every web page in; buckets have configurations of their own for that.
    os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"
    import werkzeug.serving
    from moto.moto_server import werkzeug_app
    from moto.moto_server.utilities import RegexConverter
    from moto.moto_server.werkzeug_app import BackendRequest, MotoRequestHandler, create_backend_app
    from werkzeug.test import create_environ, run_wsgi_app

    from .door import Door
    from .versions import correct_versions

    # It colours its log, whether or not a terminal shows it.
    werkzeug.serving._log_add_style = False
    MotoRequestHandler.server_version = f"moto/{version('moto')}"  # type: ignore[assignment]

    class WithLineFeeds(RegexConverter):
        """A part of a path by its pattern, in which a dot also matches a line feed: keys may have some."""

        def __init__(self, url_map: Any, pattern: str) -> None:
            super().__init__(url_map, f"(?s:{pattern})")

    correct_versions()
    vars(werkzeug_app)["RegexConverter"] = WithLineFeeds
    # S3's application alone: moto's dispatcher also serves every other service of AWS, and a page that resets it.
    application = create_backend_app("s3")

    class BodyRequest(BackendRequest):
        """A request whose body is an object's, also where its content type is that of a form."""

        @property
        def want_form_data_parsed(self) -> bool:
            return self.method == "POST" and self.mimetype == "multipart/form-data"

    application.request_class = BodyRequest
    # The first request loads what moto knows about S3, and would wait for that.
    run_wsgi_app(application, create_environ())
    door = Door(application, keys, options.host)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = werkzeug.serving.make_server(
        options.host, options.port, door, threaded=True, request_handler=MotoRequestHandler
    )
    give_up_capabilities("botocore", "flask", "jinja2", "moto.core", "moto.s3", "werkzeug")
    server.log_startup()
    server.serve_forever()


if __name__ == "__main__":
    main()
