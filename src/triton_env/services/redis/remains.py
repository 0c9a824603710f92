"""What restores left in a Redis, known by a key."""

import re

from triton_env.services import Redis
from triton_env.services.redis.names import RESTORE_KEY

_USED = re.compile(r"^db(\d+):", re.MULTILINE)


def remains(service: Redis) -> list[str]:
    """See `Remains`."""
    return [f"logical database {number}" for number in _staged(service)]


def _staged(service: Redis) -> list[int]:
    """The numbers of the logical databases that a restore uses."""
    if answer := service._answers(["INFO", "keyspace"]):
        used = _USED.findall(answer[0])
        kinds = service._answers(*(words for n in used for words in (["SELECT", n], ["TYPE", RESTORE_KEY])))
        if len(kinds) == 2 * len(used) and "string" not in kinds:
            return []
    # By redis-py, which takes long to load.
    from triton_env.services.redis.connection import is_staged, used_databases

    return [number for number in used_databases(service) if is_staged(service, number)]
