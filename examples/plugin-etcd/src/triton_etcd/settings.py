"""The settings of etcd."""

from triton_env.core.setting_types import Name, PortNumber, Seconds
from triton_env.core.settings_group import Role, SettingsGroup, UrlForm, setting, with_fields

_URL = UrlForm(schemes=("http",), example="http://HOST:PORT")


@with_fields
class EtcdSettings(SettingsGroup):
    """The settings of etcd."""

    service = "etcd"

    etcd_url: Name = setting(Role.URL, "URL, for applications.", default="http://localhost:2379", form=_URL)
    etcd_host: Name = setting(Role.HOST, "Host, for applications.", default="localhost")
    etcd_port: PortNumber = setting(Role.PORT, "Port with `TRITON_PORTS=fixed`.", default=2379, protocol="http")
    etcd_peer_port: PortNumber = setting(
        Role.PORT, "Port of the cluster with `TRITON_PORTS=fixed`.", default=2380, protocol="peers"
    )
    etcd_image: Name = setting(
        Role.IMAGE, "An image with the program `etcd`.", default="gcr.io/etcd-development/etcd:v3.5.17"
    )
    triton_etcd_timeout: Seconds = setting(
        Role.TIMEOUT, "Seconds from a container's start until etcd has to be ready.", default=120
    )
