"""The services that come with triton-env, and what is known of them without loading any."""

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triton_env.services.base_fixtures import Fixtures
    from triton_env.services.base_shell import Shell

BUILT_IN = ("postgres", "clickhouse", "redis", "s3")
"""Their folders, in the order in which people read them."""


def shells() -> "Iterator[tuple[str, Shell]]":
    """Their names and shells. No other module of theirs is loaded."""
    for name in BUILT_IN:
        yield name, import_module(f"triton_env.services.{name}.shell").SHELL


def fixtures() -> "Iterator[tuple[str, Fixtures]]":
    """Their names and fixtures. No other module of theirs is loaded."""
    for name in BUILT_IN:
        yield name, import_module(f"triton_env.services.{name}.fixtures").FIXTURES
