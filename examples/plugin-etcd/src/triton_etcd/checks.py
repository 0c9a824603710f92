"""What people should know of an etcd before they rely on it."""

import re
from collections.abc import Iterator
from typing import Final

from triton_env.core.findings import Finding, Verdict
from triton_env.services.base_checks import Checks

_LOSES_DATA: Final = re.compile(r"v?3\.5\.[012]$")
"""https://github.com/etcd-io/etcd/blob/main/CHANGELOG/CHANGELOG-3.5.md, v3.5.3"""


class EtcdChecks(Checks):
    """Versions that lose data."""

    def of_image(self, image: str) -> Iterator[Finding]:
        tag = image.partition("@")[0].rpartition(":")[2]
        if _LOSES_DATA.match(tag):
            words = f"etcd {tag.removeprefix('v')} may lose data when its process is killed"
            yield Finding("images", Verdict.WARNING, words, "set ETCD_IMAGE to 3.5.3 or newer")


CHECKS: Final = EtcdChecks()
