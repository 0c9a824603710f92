"""The configuration that the engine starts with: what the image has, and limits for a machine that it shares."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

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
        <!-- Rows for which there is room from the start; more is made when there are more. -->
        <reserved_size_rows>64</reserved_size_rows>
    </query_log>
    <!-- Nobody has to listen there: this is how the engine sees that the only server of the cluster is itself. -->
    <tcp_port>9000</tcp_port>
    <remote_servers>
        <default>
            <shard><replica><host>localhost</host><port>9000</port></replica></shard>
        </default>
    </remote_servers>
    <macros>
        <cluster>default</cluster>
        <shard>01</shard>
        <replica>01</replica>
    </macros>
</clickhouse>
"""


def write(folder: Path) -> str:
    """Write it into the data folder, and return the path by which the engine finds it.

    It is relative to the working directory: the engine takes it in a URL, in which a path may have no meaning.
    """
    new = folder / f"{_NAME}.new"
    new.write_text(_TEXT, encoding="utf-8")
    new.replace(folder / _NAME)
    return os.path.relpath(folder / _NAME)
