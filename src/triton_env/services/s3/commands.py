"""Buckets and objects, without the AWS command line: ls, cp, rm, mb and cat, written as `aws s3` has them."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from triton_env.errors import TritonError, UsageError
from triton_env.services.s3.requests import UnusualError, buckets_of, pages

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from triton_env.services import S3

_SCHEME = "s3://"
_STREAM = "-"
Show = Callable[[str], None]

_HINT = "install the AWS command line for more: pip install awscli"


@dataclass(frozen=True, slots=True)
class _Place:
    """A bucket, and a key in it or the beginning of some."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}"


def run(service: "S3", arguments: Sequence[str], show: Show) -> int:
    """Run one of the commands and return its exit status.

    Raises:
        UsageError: the command or option does not exist.
        TritonError: the server refuses.
    """
    name, *words = arguments
    if name not in ("ls", *_COMMANDS):
        raise UsageError(f"Unknown command {name!r}. Choose from ls, {', '.join(_COMMANDS)}.", hint=_HINT)
    recursive = "--recursive" in words
    places = [word for word in words if word != "--recursive"]
    for word in places:
        if word.startswith("-") and word != _STREAM:
            raise UsageError(f"Unknown option {word!r}. The only one is --recursive.", hint=_HINT)
    try:
        if name == "ls":
            return _ls(service, places, recursive, show)
        return _COMMANDS[name](service.client(), places, recursive, show)
    except (BrokenPipeError, TritonError):
        raise
    except _failures() as error:
        raise TritonError(f"s3 {name} failed.", where=" ".join(places), cause=str(error)) from error


def check_source(arguments: Sequence[str]) -> None:
    """See that what is to be copied from this machine is there, before a server is asked for anything.

    Raises:
        UsageError: it is not.
    """
    name, *words = arguments
    source = next((word for word in words if word == _STREAM or not word.startswith("-")), _STREAM)
    if name != "cp" or source == _STREAM or source.startswith(_SCHEME):
        return
    is_recursive = "--recursive" in words
    if not os.path.exists(source):
        raise UsageError(f"The {'folder' if is_recursive else 'file'} {source} does not exist.", hint=f"ls -l {source}")
    if os.path.isdir(source) != is_recursive:
        what, instead = ("a file", "without") if is_recursive else ("a folder", "with")
        raise UsageError(f"{source} is {what}.", hint=f"copy it {instead} --recursive")
    if not os.access(source, os.R_OK):
        raise UsageError(f"{source} cannot be read.", hint=f"ls -ld {source}")


def _failures() -> tuple[type[Exception], ...]:
    # Looked up when something was raised.
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return (Boto3Error, BotoCoreError, ClientError, OSError)


def _ls(service: "S3", words: list[str], recursive: bool, show: Show) -> int:
    if not words:
        for bucket, made in buckets_of(service).items():
            show(f"{made:%Y-%m-%d %H:%M:%S} {bucket}")
        return 0
    (place,) = _places(words, 1, "ls [S3URI]")
    found = False
    for page in _pages(service, place, "" if recursive else "/"):
        for folder in page.get("CommonPrefixes", ()):
            found = True
            show(f"{'PRE':>30} {_shown(folder['Prefix'], place.key, recursive)}")
        for item in page.get("Contents", ()):
            found = True
            name = _shown(item["Key"], place.key, recursive)
            show(f"{item['LastModified']:%Y-%m-%d %H:%M:%S} {item['Size']:>10} {name}")
    # As `aws s3 ls` has it: a prefix without objects is not there.
    return 0 if found or not place.key else 1


def _pages(service: "S3", place: _Place, delimiter: str) -> Iterator[Mapping[str, Any]]:
    seen = False
    try:
        for page in pages(service, place.bucket, place.key, delimiter):
            seen = True
            yield page
    except UnusualError:
        if seen:
            raise
        paginator = service.client().get_paginator("list_objects_v2")
        folders: dict[str, Any] = {"Delimiter": delimiter} if delimiter else {}
        yield from paginator.paginate(Bucket=place.bucket, Prefix=place.key, **folders)


def _shown(key: str, prefix: str, recursive: bool) -> str:
    return key if recursive else key[prefix.rfind("/") + 1 :]


def _cp(client: "S3Client", words: list[str], recursive: bool, show: Show) -> int:
    if len(words) != 2:
        raise UsageError("Wrong arguments.", hint="python -m triton_env s3 cp SOURCE TARGET")
    for source, target in _pairs(client, *words, recursive=recursive):
        if isinstance(source, _Place) and isinstance(target, _Place):
            client.copy({"Bucket": source.bucket, "Key": source.key}, target.bucket, target.key)
        elif isinstance(source, _Place):
            _download(client, source, str(target))
        elif isinstance(target, _Place):
            with _opened(str(source)) as file:
                client.upload_fileobj(file, target.bucket, target.key)
        if _STREAM not in words:
            show(f"copied: {source} to {target}")
    return 0


def _pairs(
    client: "S3Client", source: str, target: str, *, recursive: bool
) -> Iterator[tuple[_Place | str, _Place | str]]:
    """What is to be copied to where; at least one of both is a place."""
    if not source.startswith(_SCHEME) and not target.startswith(_SCHEME):
        raise UsageError(
            "SOURCE or TARGET has to begin with s3://.", hint="python -m triton_env s3 cp FILE s3://BUCKET/"
        )
    if not recursive:
        name = Path(source).name if source != _STREAM else ""
        whole = target.startswith(_SCHEME) and (target.endswith("/") or "/" not in target.removeprefix(_SCHEME))
        if whole and not name:
            raise UsageError("Standard input has no name.", hint="name the object: s3://BUCKET/KEY")
        if target != _STREAM and not target.startswith(_SCHEME) and (target.endswith("/") or Path(target).is_dir()):
            target = str(Path(target) / name)
        elif whole:
            target = f"{target.rstrip('/')}/{name}"
        yield _place_or_path(source), _place_or_path(target)
        return
    base = _place_or_path(source)
    if isinstance(base, _Place):
        prefix = base.key if not base.key or base.key.endswith("/") else f"{base.key}/"
        names = [(_Place(base.bucket, key), key.removeprefix(prefix)) for key in _keys(client, base.bucket, prefix)]
        pairs: list[tuple[_Place | str, str]] = [*names]
    else:
        files = (path for path in Path(base).rglob("*") if path.is_file())
        pairs = [(str(path), path.relative_to(base).as_posix()) for path in sorted(files)]
    for each, name in pairs:
        yield each, _place_or_path(f"{target.rstrip('/')}/{name}")


def _download(client: "S3Client", source: _Place, target: str) -> None:
    if target == _STREAM:
        output = sys.stdout.buffer
        for chunk in client.get_object(Bucket=source.bucket, Key=source.key)["Body"].iter_chunks(1 << 20):
            output.write(chunk)
        output.flush()
        return
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    client.download_file(source.bucket, source.key, target)


def _opened(path: str) -> BinaryIO:
    return sys.stdin.buffer if path == _STREAM else Path(path).open("rb")


def _cat(client: "S3Client", words: list[str], recursive: bool, show: Show) -> int:
    (place,) = _places(words, 1, "cat S3URI")
    _download(client, place, _STREAM)
    return 0


def _rm(client: "S3Client", words: list[str], recursive: bool, show: Show) -> int:
    (place,) = _places(words, 1, "rm S3URI [--recursive]")
    if not place.key and not recursive:
        raise UsageError(f"{place} is a bucket.", hint=f"python -m triton_env s3 rm {place} --recursive")
    for key in _keys(client, place.bucket, place.key) if recursive else (place.key,):
        client.delete_object(Bucket=place.bucket, Key=key)
        show(f"deleted: {_Place(place.bucket, key)}")
    return 0


def _mb(client: "S3Client", words: list[str], recursive: bool, show: Show) -> int:
    (place,) = _places(words, 1, "mb s3://BUCKET")
    region = client.meta.region_name
    if region == "us-east-1":
        client.create_bucket(Bucket=place.bucket)
    else:
        client.create_bucket(
            Bucket=place.bucket,
            CreateBucketConfiguration={"LocationConstraint": region},  # type: ignore[typeddict-item]
        )
    show(f"made: {place.bucket}")
    return 0


def _keys(client: "S3Client", bucket: str, prefix: str) -> Iterator[str]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", ()):
            yield item["Key"]


def _places(words: list[str], count: int, usage: str) -> list[_Place]:
    places = [_place_or_path(word) for word in words]
    found = [place for place in places if isinstance(place, _Place)]
    if len(found) != count or len(places) != count:
        raise UsageError("Wrong arguments.", hint=f"python -m triton_env s3 {usage}, where S3URI is s3://BUCKET/KEY")
    return found


def _place_or_path(word: str) -> _Place | str:
    if not word.startswith(_SCHEME):
        return word
    bucket, _, key = word.removeprefix(_SCHEME).partition("/")
    return _Place(bucket, key)


_COMMANDS: dict[str, Callable[["S3Client", list[str], bool, Show], int]] = {
    "cp": _cp,
    "rm": _rm,
    "mb": _mb,
    "cat": _cat,
}
