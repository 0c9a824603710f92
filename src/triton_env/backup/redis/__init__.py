"""Redis: every key with its type, value and expiry as records, which any server of the protocol takes."""

from triton_env.backup.redis.dump import save
from triton_env.backup.redis.restore import RedisRestorer

__all__ = ["RedisRestorer", "save"]
