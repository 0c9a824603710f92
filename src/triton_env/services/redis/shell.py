"""`redis-cli`: Redis's shell."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from triton_env.core.commands import interpreter
from triton_env.services.base_shell import Arguments, ServerShell

if TYPE_CHECKING:
    from triton_env.core.model import Endpoint
    from triton_env.services import Redis


class RedisCli(ServerShell):
    """redis-cli."""

    command = program = "redis-cli"
    summary = "Open redis-cli, or run it with arguments."
    description = """\
    Run redis-cli on the Redis that runs here, with address and password set.

    \b
    python -m triton_env redis-cli
    python -m triton_env redis-cli get greeting
    python -m triton_env redis-cli < commands.txt

    ARGS are passed on; options of this command come before them, and -- before a --help for redis-cli. Where the
    service is a container, redis-cli runs in it; elsewhere it has to be installed.

    Exit status: that of redis-cli; 1 if Redis does not run.
    """
    protocol = "redis"
    # The library is there wherever triton-env is.
    instead = (
        'without it: eval "$(python -m triton_env env --session SESSION --format shell)" && '
        f"{interpreter()} -c \"print(__import__('redis').from_url('$REDIS_URL').execute_command('ping'))\""
        "; or install it (Debian and Ubuntu: apt-get install redis-tools)"
    )

    def arguments(self, service: "Redis", at: "Endpoint", given: Arguments) -> Arguments:
        return ("-h", at.host, "-p", str(at.port), *given)

    def variables(self, service: "Redis", at: "Endpoint") -> Mapping[str, str]:
        # Empty, it would be sent, and refused.
        return {"REDISCLI_AUTH": service.password} if service.password else {}

    def way_in(self, service: "Redis") -> str:
        return f"redis-cli -u {shlex.quote(service.url)}"


SHELL = RedisCli()
