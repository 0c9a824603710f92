"""What is advised where an engine may not set the limits that a container has."""

from triton_env import Settings
from triton_env.persistent.docker.runtime import hint_about_limits


def test_what_was_asked_for_may_be_too_much() -> None:
    assert "CLICKHOUSE_NOFILE" in hint_about_limits(Settings(), "Docker")
    assert "CLICKHOUSE_NOFILE" in hint_about_limits(Settings(clickhouse_nofile=262_144), "Podman")


def test_podman_asks_for_more_by_itself() -> None:
    hint = hint_about_limits(Settings(), "Podman")
    assert "CLICKHOUSE_NOFILE" not in hint
    assert "as a user" in hint
