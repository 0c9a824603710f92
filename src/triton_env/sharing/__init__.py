"""One warm environment for several processes: a keeper owns it, and whoever uses it holds a lease.

What is here is told in docs/architecture.md, "Shared environments".
"""

from triton_env.sharing.reuse import Reuse

__all__ = ["Reuse"]
