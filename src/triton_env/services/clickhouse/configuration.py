"""How a ClickHouse of this machine is run: with a configuration of its own, and nothing of the machine's."""

import hashlib
from dataclasses import replace
from xml.etree import ElementTree

from triton_env.core.model import ProcessRecipe, Storage
from triton_env.core.packaged_files import packaged_file
from triton_env.core.server_options import parsed
from triton_env.services.clickhouse import programs
from triton_env.settings import Settings

_OF_USERS = ("profiles.", "quotas.", "users.")
_ENVIRONMENT = {
    # Not on the command line: what is there is missing when the server reads its configuration again, which closes
    # ports that it does not find.
    "TRITON_LISTEN_HOST": "{host}",
    "TRITON_HTTP_PORT": "{port:http}",
    "TRITON_TCP_PORT": "{port:native}",
    # A second process would stand between the server and the one that ends it.
    "CLICKHOUSE_WATCHDOG_ENABLE": "0",
}
# https://github.com/ClickHouse/ClickHouse/blob/master/programs/server/config.xml, but for its ports of replicas and of
# other protocols, the logs about the server itself, which it would write all the time, and its large caches.
_CONFIGURATION = """\
<clickhouse>
  <logger>
    <level>information</level>
    <console>1</console>
  </logger>
  <listen_host from_env="TRITON_LISTEN_HOST"/>
  <http_port from_env="TRITON_HTTP_PORT"/>
  <tcp_port from_env="TRITON_TCP_PORT"/>
  <users_config>users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <custom_settings_prefixes>SQL_</custom_settings_prefixes>
  <send_crash_reports><enabled>false</enabled></send_crash_reports>
  <max_server_memory_usage_to_ram_ratio>0.5</max_server_memory_usage_to_ram_ratio>
  <mark_cache_size>268435456</mark_cache_size>
  <index_mark_cache_size>67108864</index_mark_cache_size>
  <query_log>
    <database>system</database>
    <table>query_log</table>
    <partition_by>toYYYYMM(event_date)</partition_by>
    <ttl>event_date + INTERVAL 7 DAY DELETE</ttl>
  </query_log>
  <part_log>
    <database>system</database>
    <table>part_log</table>
    <partition_by>toYYYYMM(event_date)</partition_by>
    <ttl>event_date + INTERVAL 7 DAY DELETE</ttl>
  </part_log>
  <remote_servers>
    <default>
      <shard>
        <replica>
          <host>localhost</host>
          <port from_env="TRITON_TCP_PORT"/>
        </replica>
      </shard>
    </default>
  </remote_servers>
  <macros>
    <cluster>default</cluster>
    <shard>01</shard>
    <replica>01</replica>
  </macros>
  <backups>
    <allowed_path>backups</allowed_path>
  </backups>
</clickhouse>
"""
_USERS = """\
<clickhouse>
  <profiles>
    <default/>
    <readonly><readonly>1</readonly></readonly>
  </profiles>
  <quotas>
    <default/>
  </quotas>
</clickhouse>
"""


def process(installed: programs.Installation, settings: Settings) -> ProcessRecipe:
    """How that ClickHouse runs as a process."""
    options = parsed(settings.triton_clickhouse_options)
    configuration, users = _configuration(options), _text(_users(settings, options))
    recipe = ProcessRecipe(
        argv=(
            *(str(installed.program), "server", "--config-file={file:config.xml}", "--"),
            # These win over the file, which could hold no path with an ampersand.
            *("--path={data}/", "--access_control_path={data}/access/"),
        ),
        requires=(),
        environment=_ENVIRONMENT,
        files={"config.xml": _text(configuration), "users.xml": users},
        storage=Storage.DISK,
        # That of the Python package keeps users in another way.
        shares_data=False,
        of_machine=str(installed),
        variable=programs.VARIABLE,
    )
    # The password may be the default one, which everybody knows.
    configuration.extend(ElementTree.fromstring(packaged_file("docker/clickhouse/web-pages.xml").read_text("utf-8")))
    files = {"config.xml": _text(configuration), "users.xml": users}
    return replace(recipe, lasting=replace(recipe, files=files, stop_signal="SIGTERM", stop_timeout=60.0))


def _configuration(options: dict[str, str]) -> ElementTree.Element:
    root = ElementTree.fromstring(_CONFIGURATION)
    for path, value in options.items():
        if not path.startswith(_OF_USERS):
            _put(root, path, value)
    return root


def _users(settings: Settings, options: dict[str, str]) -> ElementTree.Element:
    """The one user, with what the entry point of the official image gives it, and its password as a hash."""
    root = ElementTree.fromstring(_USERS)
    password = settings.clickhouse_password.get_secret_value()
    user = {
        "password_sha256_hex": hashlib.sha256(password.encode()).hexdigest(),
        "networks.ip": "::/0",
        "profile": "default",
        "quota": "default",
        "access_management": "1",
    }
    given = {f"users.{settings.clickhouse_user}.{name}": value for name, value in user.items()}
    for path, value in (given | options).items():
        if path.startswith(_OF_USERS):
            _put(root, path, value)
    return root


def _text(root: ElementTree.Element) -> str:
    return ElementTree.tostring(root, encoding="unicode")


def _put(root: ElementTree.Element, path: str, value: str) -> None:
    """Set the text of an element at a path, made where it is missing."""
    element = root
    for name in filter(None, path.split(".")):
        inner = element.find(name)
        element = ElementTree.SubElement(element, name) if inner is None else inner
    element.text = value
