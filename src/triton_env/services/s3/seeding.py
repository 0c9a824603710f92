"""S3: every file of a template is an object of the bucket, by its path."""

import mimetypes
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from triton_env.core.files import files_in, shown
from triton_env.core.programming_errors import PROGRAMMING_ERRORS
from triton_env.errors import TemplateFailed
from triton_env.services import S3
from triton_env.services.base_seeding import Seeding

_UPLOADS = 8
"""Objects that are uploaded at once."""


class S3Seeding(Seeding[S3]):
    """Uploads files, several at once."""

    files = "objects"

    def load(self, folder: Path, service: S3) -> None:
        client = service.client()
        bucket = service.bucket

        def upload(path: Path) -> None:
            key = path.relative_to(folder).as_posix()
            kind, encoding = mimetypes.guess_type(path.name)
            headers = {"ContentType": kind} if kind and not encoding else {}
            try:
                client.upload_file(str(path), bucket, key, ExtraArgs=headers)
            except PROGRAMMING_ERRORS:
                raise
            except Exception as error:
                raise TemplateFailed(
                    "S3 refused an object of the template.", where=shown(path), cause=str(error)
                ) from error

        try:
            with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="triton-template") as pool:
                for _ in pool.map(upload, files_in(folder, strict=True)):
                    pass
        finally:
            client.close()
