"""The configuration that the engine starts with: what the image has, and limits for a machine that it shares."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from . import sql
from .config import DEFAULT_PROFILE
from .querylog import ENGINE_TABLE

_NAME: Final = "config.xml"
# Source of the names: ClickHouse documentation, server settings.
_TEXT: Final = f"""<!-- Written at each start. -->
<clickhouse>
    <!-- Tests run beside it: a query that needs more fails instead of the machine. -->
    <max_server_memory_usage_to_ram_ratio>0.5</max_server_memory_usage_to_ram_ratio>
    <mark_cache_size>268435456</mark_cache_size>
    <index_mark_cache_size>67108864</index_mark_cache_size>
    <query_log>
        <database>system</database>
        <table>{ENGINE_TABLE}</table>
        <partition_by>toYYYYMM(event_date)</partition_by>
        <ttl>event_date + INTERVAL 7 DAY DELETE</ttl>
        <!-- Tests wait for what they did to be there. -->
        <flush_interval_milliseconds>1000</flush_interval_milliseconds>
        <!-- Rows for which there is room from the start; more is made when there are more. -->
        <reserved_size_rows>64</reserved_size_rows>
    </query_log>
    <!-- No server has to listen there: by this port the engine sees that the cluster consists of itself. -->
    <tcp_port>9000</tcp_port>
    <remote_servers>
        <default>
            <shard><replica><host>localhost</host><port>9000</port></replica></shard>
        </default>
    </remote_servers>
    <!-- BACKUP ... TO File('name'), below the data folder. -->
    <backups>
        <allowed_path>backups</allowed_path>
    </backups>
    <macros>
        <cluster>default</cluster>
        <shard>01</shard>
        <replica>01</replica>
    </macros>
</clickhouse>
"""


def write(folder: Path, options: Iterable[tuple[str, str]] = ()) -> str:
    """Write it into the data folder, and return the path by which the engine finds it.

    It is relative to the working directory: the engine takes it in a URL, in which a path may have no meaning.

    Args:
        options: values of elements by their paths, with dots; for those of the default profile see `profile`.
    """
    root = ElementTree.fromstring(_TEXT)
    for path, value in options:
        if not path.startswith(DEFAULT_PROFILE):
            _element(root, path.split(".")).text = value
    new = folder / f"{_NAME}.new"
    ElementTree.ElementTree(root).write(new, encoding="utf-8")
    new.replace(folder / _NAME)
    return os.path.relpath(folder / _NAME)


def profile(options: Iterable[tuple[str, str]]) -> str:
    """The statement that gives a connection the options of the default profile; empty where there are none.

    The engine takes no profiles from its configuration, and decodes nothing in the URL that it is opened with.
    """
    prefix = len(DEFAULT_PROFILE)
    of_profile = [(path[prefix:], value) for path, value in options if path.startswith(DEFAULT_PROFILE)]
    settings = ", ".join(f"{sql.identifier(name)} = {sql.quote(value)}" for name, value in of_profile)
    return f"SET {settings}" if settings else ""


def _element(parent: ElementTree.Element, names: Sequence[str]) -> ElementTree.Element:
    """The element at a path, made where it is missing."""
    for name in names:
        found = parent.find(name)
        parent = ElementTree.SubElement(parent, name) if found is None else found
    return parent
