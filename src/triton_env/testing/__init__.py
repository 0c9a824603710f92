"""The contract that every service keeps, as tests for pytest: for a distribution that brings a service.

A module of tests has a class of its own below each of these, and the fixtures that they ask for: `env`, `contents` and
`service_name`. docs/how-to/add-a-service.md has an example.
"""

import pytest

pytest.register_assert_rewrite(f"{__name__}.services", f"{__name__}.isolation", f"{__name__}.backup")

from triton_env.testing.backup import BackupContract  # noqa: E402 - after its assertions are registered
from triton_env.testing.contents import Contents  # noqa: E402
from triton_env.testing.isolation import IsolationContract  # noqa: E402
from triton_env.testing.services import ServiceContract  # noqa: E402

__all__ = ["BackupContract", "Contents", "IsolationContract", "ServiceContract"]
