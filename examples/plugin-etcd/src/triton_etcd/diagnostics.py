"""What etcd says about a test that failed: the keys that there are."""

from triton_env.services.base_diagnostics import LINES, Diagnostics
from triton_etcd.service import Etcd


class EtcdDiagnostics(Diagnostics[Etcd]):
    """Names the keys of the test's namespace."""

    title = "keys"

    def answer(self, since: float) -> str:
        with self._service.client(timeout=self._timeout) as client:
            lines = [f"{key.decode(errors='replace')} ({len(value)} bytes)" for key, value in client.items().items()]
        return "\n".join(lines[-LINES:])
