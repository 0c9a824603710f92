"""Files of a template's folder `etcd/` are values, whose keys are their paths."""

from pathlib import Path

from triton_env.core.files import files_in, read
from triton_env.services.base_seeding import Seeding
from triton_etcd.service import Etcd


class EtcdSeeding(Seeding[Etcd]):
    """Puts each file."""

    files = "values"

    def load(self, folder: Path, service: Etcd) -> None:
        with service.client() as client:
            for path in files_in(folder, strict=True):
                client.put(path.relative_to(folder).as_posix(), read(path))
