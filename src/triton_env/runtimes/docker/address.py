"""At which address do published ports of the engine's containers answer?

No single rule is right: `/.dockerenv` exists in machines that are not containers of this engine, DOCKER_HOST may be a
socket, a machine over TCP or SSH, and this process may itself run in a container beside the ones that it starts. The
engine is asked whether it knows the container that we might be; that decides.
"""

import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - a name for it, used where nothing narrower can be reached


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """How ports are published and reached.

    Attributes:
        bind: the engine's address on which containers publish their ports.
        host: the address at which this process reaches them.
        reason: why, for `doctor` and error messages.
        beyond: where ports are forwarded to this process: the address at which the other end of the connection
            reaches them. Empty where they are reached directly.
    """

    bind: str
    host: str
    reason: str
    beyond: str = ""

    @property
    def name(self) -> str:
        """The host where it is a name within a domain, which servers do not take for theirs unless they know it."""
        return self.host if "." in self.host and not _is_address(self.host) else ""


def plan_addresses(
    *,
    engine_url: str,
    bind_override: str = "",
    host_override: str = "",
    own_gateway: str = "",
    engine_address: str = "",
) -> AddressPlan:
    """Work out where ports are published and reached.

    Args:
        engine_url: how the engine is reached: `unix://...`, `npipe://...`, `tcp://host:port`, `ssh://user@host`.
        bind_override: the user's bind address, or empty.
        host_override: the user's word for the host (Testcontainers' TC_HOST), or empty.
        own_gateway: the gateway of the network that this process's own container is on, where the engine knows
            that container; empty everywhere else.
        engine_address: the address at which an engine on another machine is reached over TCP; empty for its host name.
    """
    engine_host = _engine_host(engine_url)
    if host_override:
        plan = AddressPlan(EVERYWHERE, host_override, "the host was given by TC_HOST")
    elif engine_url.startswith("ssh://"):
        bind = bind_override or LOOPBACK
        where = urlsplit(engine_url).hostname
        beyond = LOOPBACK if ip_address(bind).is_unspecified else bind
        return AddressPlan(bind, LOOPBACK, f"the engine is remote, and ssh to {where} forwards the ports", beyond)
    elif engine_host:
        # Not everywhere: what reaches that address reaches the engine too.
        bind = engine_address or EVERYWHERE
        plan = AddressPlan(bind, engine_host, f"the engine is remote ({engine_host})")
    elif own_gateway:
        # The gateway is an address of the engine's machine that its containers reach and the outside does not.
        plan = AddressPlan(
            own_gateway,
            own_gateway,
            "this process runs in a container of the same engine",
        )
    else:
        plan = AddressPlan(LOOPBACK, LOOPBACK, "the engine is on this machine")
    if not bind_override:
        return plan
    host = plan.host
    if plan.host in (LOOPBACK, own_gateway) and not ip_address(bind_override).is_unspecified:
        host = bind_override
    return AddressPlan(bind_override, host, f"{plan.reason}; TRITON_BIND_ADDRESS is {bind_override}")


def _engine_host(engine_url: str) -> str:
    """The host name in the engine's URL; empty for an engine on this machine."""
    parts = urlsplit(engine_url)
    if parts.scheme not in ("tcp", "http", "https", "ssh"):
        return ""
    host = parts.hostname or ""
    if host == "localhost" or (_is_address(host) and ip_address(host).is_loopback):
        return ""
    return host


def address_of(engine_url: str) -> str:
    """The address of an engine on another machine over TCP; empty for others, and where it cannot be found."""
    host = _engine_host(engine_url)
    if not host or engine_url.startswith("ssh://"):
        return ""
    try:
        # As connections are made: the first that there is.
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]).partition("%")[0]
    except OSError:
        return ""


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


_MOUNTED = re.compile(r"/containers/([0-9a-f]{64})/\S+ /etc/(?:hostname|hosts|resolv\.conf) ")
"""The root of a mount within its file system, and where it is mounted: columns four and five.

https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
"""


def possible_own_container_ids(
    mountinfo: Path = Path("/proc/self/mountinfo"),
) -> tuple[str, ...]:
    """Ids under which an engine may know the container in which this process runs, the surest first.

    Docker mounts /etc/hostname and others from a folder named by the container's id, and uses its first 12
    digits as the default host name. Elsewhere the same folders may be those of other containers: while `docker cp`
    works, the engine mounts them below its data on the machine itself.
    """
    ids: list[str] = []
    with suppress(OSError):
        ids += _MOUNTED.findall(mountinfo.read_text())
    hostname = socket.gethostname()
    if re.fullmatch(r"[0-9a-f]{12}", hostname):
        ids.append(hostname)
    return tuple(dict.fromkeys(ids))
