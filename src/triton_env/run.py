"""Where `Persistent` was; it is `triton_env.Persistent`."""

from triton_env.modes.persistent import Persistent

__all__ = ["Persistent"]
