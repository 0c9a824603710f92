"""One warm environment for several processes: a keeper owns it, and each process that uses it holds a lease.

docs/architecture.md describes it under "Shared environments".
"""

from triton_env.sharing.reuse import Reuse

__all__ = ["Reuse"]
