"""`etcdctl`: etcd's shell."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from triton_env.services.base_shell import Arguments, ServerShell

if TYPE_CHECKING:
    from triton_env.core.model import Endpoint
    from triton_etcd.service import Etcd


class EtcdCtl(ServerShell):
    """etcdctl."""

    command = program = "etcdctl"
    summary = "Run etcdctl with arguments."
    description = """\
    Run etcdctl on the etcd that runs here, with its address set.

    \b
    python -m triton_env etcdctl put color blue
    python -m triton_env etcdctl get --prefix ""

    ARGS are passed on; options of this command come before them, and -- before a --help for etcdctl. Where the service
    is a container, etcdctl runs in it; elsewhere it is the one that the package of the server brings.

    Exit status: that of etcdctl; 1 if etcd does not run.
    """
    needs_arguments = True
    protocol = "http"
    instead = "install it (Debian and Ubuntu: apt-get install etcd-client)"

    def arguments(self, service: "Etcd", at: "Endpoint", given: Arguments) -> Arguments:
        return (f"--endpoints=http://{at}", *given)

    def variables(self, service: "Etcd", at: "Endpoint") -> Mapping[str, str]:
        return {"ETCDCTL_API": "3"}

    def way_in(self, service: "Etcd") -> str:
        return f"etcdctl --endpoints={service.url} get --prefix {shlex.quote(service.prefix)}"


SHELL = EtcdCtl()
