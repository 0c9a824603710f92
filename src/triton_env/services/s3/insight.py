"""What S3 reports about itself: buckets, objects with their versions, their content."""

from codecs import getincrementaldecoder
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from triton_env.errors import UsageError
from triton_env.services.base_insight import (
    PREVIEW,
    ROWS,
    Column,
    Document,
    Insight,
    Metric,
    Panel,
    Row,
    Table,
    cut,
    table_of,
)
from triton_env.services.names import kind_of_space
from triton_env.services.s3.counting import Counter, Counts
from triton_env.services.s3.names import bucket_names, is_bucket_of_restore, space_ids
from triton_env.services.s3.service import S3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_RANGE = 8 << 20
"""Bytes of a document that are asked for at once: LocalStack holds an answer in memory until it is taken."""
_BINARY = 256
"""Bytes of what is not text that are shown."""
_BUCKET_COLUMNS = (
    Column("bucket"),
    Column("made", "time"),
    Column("objects", "number"),
    Column("size", "bytes"),
)
_OBJECT_COLUMNS = (
    Column("key"),
    Column("size", "bytes"),
    Column("modified", "time"),
    Column("version"),
    Column("state"),
)


class S3Insight(Insight[S3]):
    """Looks at an S3 server. Servers count nothing themselves, so objects are counted by lists, now and then."""

    metrics = (
        Metric("buckets", "Buckets", "Buckets of the server."),
        Metric("objects", "Objects", "Objects that were found in all buckets when they were last counted."),
        Metric("objects_bytes", "Size", "Size of these objects, of each the newest version.", unit="bytes"),
        Metric("count_is_cut", "Count is cut", "1 where the count ended early, so that there are more than that."),
    )
    panels = (
        Panel("buckets", "Buckets", "The server has no bucket."),
        Panel("objects", "Objects", "No object has a key like this.", "bucket/prefix"),
        Panel("object", "Object", "This object is empty.", "bucket/key", needs_argument=True),
    )

    _kept: "S3Client | None" = None
    _counter: Counter | None = None

    def document(self, key: str) -> Document:
        with self._asking(apart=True):
            bucket, _, name = key.partition("/")
            where = _where(key)
            client = self._connect()
            try:
                head = self._head(client, where)
            except BaseException:
                client.close()
                raise
            size = head["ContentLength"]
            content = self._content(client, {**where, "IfMatch": head["ETag"]}, size)
            media_type = head.get("ContentType") or "application/octet-stream"
            return Document(name.rstrip("/").rpartition("/")[2] or bucket, media_type, size, content)

    def _sample(self) -> Mapping[str, float]:
        counts = self._counted()
        return {
            "buckets": len(counts.made),
            "objects": sum(each.objects for each in counts.found.values()),
            "objects_bytes": sum(each.size for each in counts.found.values()),
            "count_is_cut": int(counts.is_cut),
        }

    def _sizes(self) -> Mapping[str, int]:
        counts = self._counted()
        found: dict[str, int] = {}
        for identifier in space_ids(self._service.bucket, counts.made):
            names = bucket_names(identifier)
            of = [counts.found.get(name) for name in counts.made if names.has(name)]
            known = [each for each in of if each and not each.is_cut]
            # Half of a space is not its size.
            if len(known) == len(of):
                found[identifier] = sum(each.size for each in known)
        return found

    def _table(self, panel: str, argument: str) -> Table:
        match panel:
            case "buckets":
                return self._buckets()
            case "objects":
                bucket, _, prefix = argument.partition("/")
                return self._objects(bucket or self._service.bucket, prefix)
            case _:
                return self._object(argument)

    def _errors(self) -> tuple[type[Exception], ...]:
        from botocore.exceptions import BotoCoreError, ClientError

        return (BotoCoreError, ClientError, OSError)

    def _counted(self) -> Counts:
        if self._counter is None:
            self._counter = Counter(self._service.bucket, self._timeout / 2)
        return self._counter.counted(self._client())

    def _buckets(self) -> Table:
        counts = self._counted()
        marks = _marks(self._service.bucket, counts.made)
        rows = []
        for name, made in counts.made.items():
            count = counts.found.get(name)
            counted = (count.objects, count.size) if count else (None, None)
            rows.append(Row((name, made.timestamp(), *counted), "objects", f"{name}/", mark=marks.get(name, "")))
        note = "There are more objects than these: the count ended early." if counts.is_cut else ""
        return table_of(_BUCKET_COLUMNS, rows, note)

    def _objects(self, bucket: str, prefix: str) -> Table:
        from botocore.exceptions import ClientError, ParamValidationError

        from triton_env.services.s3.answers import is_missing

        client = self._client()
        options: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/", "MaxKeys": ROWS}
        try:
            is_versioned = bool(client.get_bucket_versioning(Bucket=bucket).get("Status"))
            page: Any = (client.list_object_versions if is_versioned else client.list_objects_v2)(**options)
        except ClientError as error:
            if is_missing(error):
                raise UsageError(
                    f"The bucket {cut(bucket, 80)!r} does not exist.", hint="see the panel 'buckets'"
                ) from error
            raise
        except ParamValidationError as error:
            raise UsageError(f"No bucket can be called {cut(bucket, 80)!r}.", hint="see the panel 'buckets'") from error
        folders = [
            Row((each["Prefix"], None, None, "", "folder"), "objects", f"{bucket}/{each['Prefix']}")
            for each in page.get("CommonPrefixes", ())
        ]
        found = [*page.get("Contents", ()), *page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        # Of each key, the newest first, as far as dates in whole seconds show it.
        found.sort(key=lambda each: (each["Key"], -each["LastModified"].timestamp(), not each.get("IsLatest")))
        rows = [_row(bucket, each) for each in found]
        return table_of(_OBJECT_COLUMNS, [*folders, *rows], is_cut=bool(page.get("IsTruncated")))

    def _object(self, argument: str) -> Table:
        where = _where(argument)
        client = self._client()
        head = self._head(client, where)
        size = head["ContentLength"]
        described = {
            "key": where["Key"],
            "bytes": str(size),
            "type": head.get("ContentType", ""),
            "modified": head["LastModified"].isoformat(),
            "ETag": head.get("ETag", ""),
            "version": head.get("VersionId", ""),
            **{f"metadata {name}": value for name, value in head.get("Metadata", {}).items()},
        }
        rows = [Row((name, cut(value)), download=argument) for name, value in described.items() if value]
        if size:
            wanted = {**where, "IfMatch": head["ETag"]}
            with closing(client.get_object(**wanted, Range=f"bytes=0-{PREVIEW - 1}")["Body"]) as body:
                rows.append(Row(("content", _shown(body.read(PREVIEW), size)), download=argument))
        columns = (Column("property"), Column("value", "code"))
        return table_of(columns, rows, is_cut=size > PREVIEW)

    def _head(self, client: "S3Client", where: Mapping[str, Any]) -> Any:
        from botocore.exceptions import ClientError, ParamValidationError

        from triton_env.services.s3.answers import is_missing

        try:
            return client.head_object(**where)
        except ParamValidationError as error:
            bucket = cut(where["Bucket"], 80)
            raise UsageError(f"No bucket can be called {bucket!r}.", hint="see the panel 'buckets'") from error
        except ClientError as error:
            if is_missing(error):
                name = f"{where['Bucket']}/{where['Key']}"
                raise UsageError(f"{cut(name, 120)!r} does not exist.", hint="see the panel 'objects'") from error
            raise

    def _content(self, client: "S3Client", where: Mapping[str, Any], size: int) -> Iterator[bytes]:
        """The content, over a connection that is closed with this."""
        with self._asking(apart=True), closing(client):
            for start in range(0, size, _RANGE):
                part = f"bytes={start}-{min(start + _RANGE, size) - 1}"
                with closing(client.get_object(**where, Range=part)["Body"]) as body:
                    yield body.read()

    def _client(self) -> "S3Client":
        if self._kept is None:
            self._kept = self._connect()
        return self._kept

    def _connect(self) -> "S3Client":
        return self._service._hasty_client(self._timeout, self._timeout)


def _where(argument: str) -> dict[str, Any]:
    """What is asked for by "bucket/key", or "bucket@version/key".

    Raises:
        UsageError: it names no object.
    """
    bucket, _, key = argument.partition("/")
    bucket, _, version = bucket.partition("@")
    if not (bucket and key):
        raise UsageError("Name an object.", hint="its bucket and its key: documents/reports/2026.pdf")
    return {"Bucket": bucket, "Key": key, **({"VersionId": version} if version else {})}


def _row(bucket: str, entry: Mapping[str, Any]) -> Row:
    version = entry.get("VersionId") or ""
    is_marker = "Size" not in entry
    state = "deleted" if is_marker else "" if entry.get("IsLatest", True) else "older"
    cells = (entry["Key"], entry.get("Size"), entry["LastModified"].timestamp(), version, state)
    key = f"{bucket}@{version}/{entry['Key']}" if version else f"{bucket}/{entry['Key']}"
    return Row(cells) if is_marker else Row(cells, "object", key, key)


def _marks(bucket: str, there: Collection[str]) -> dict[str, str]:
    """The marks of buckets that are not the user's."""
    marks = {name: "restore" for name in there if is_bucket_of_restore(name)}
    for identifier in space_ids(bucket, there):
        marks |= {name: kind_of_space(identifier) for name in there if bucket_names(identifier).has(name)}
    return marks


def _shown(content: bytes, size: int) -> str:
    """The beginning of an object's content, as text or else as numbers."""
    try:
        # A character at its end may be cut.
        text = getincrementaldecoder("utf-8")().decode(content, final=len(content) == size)
    except UnicodeDecodeError:
        text = "\0"
    return content[:_BINARY].hex(" ") if "\0" in text else text
