"""What was acknowledged is kept, whole; what could not be saved is not acknowledged, and leaves no trace."""

import hashlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from persistence.localstack_server import DATA, docker, server, shell, until, volume

# Three restarts under load take their time on a busy machine.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

BUCKET = "bucket"
VERSIONED = "versioned"


@dataclass
class Key:
    """What a writer knows of its key: the last state that was acknowledged, and those that it asked for since."""

    acknowledged: str | None = None
    asked: set[str | None] = field(default_factory=set)


@dataclass
class Writer:
    """Writes, overwrites and deletes its own keys, and remembers each answer. Bodies are told by their hash."""

    client: Any
    number: int
    keys: dict[str, Key] = field(default_factory=dict)
    versions: dict[tuple[str, str], str] = field(default_factory=dict)
    parts: dict[int, str] = field(default_factory=dict)
    upload: str = ""
    acknowledged: int = 0

    def run(self, stop: threading.Event) -> None:
        dice = random.Random(self.number + self.acknowledged * 100)
        with suppress(BotoCoreError, ClientError):
            self.upload = self.client.create_multipart_upload(Bucket=BUCKET, Key=f"upload-{self.number}")["UploadId"]
            self.parts = {}
            while not stop.is_set():
                body = dice.randbytes(dice.choice((0, 100, 10_000, 700_000)))
                digest = hashlib.sha256(body).hexdigest()
                self.acknowledged += self._one(dice, body, digest)

    def _one(self, dice: random.Random, body: bytes, digest: str) -> int:
        name = f"{self.number}/{dice.randrange(20)}"
        key = self.keys.setdefault(name, Key())
        choice = dice.random()
        if choice < 0.6:
            key.asked.add(digest)
            self.client.put_object(Bucket=BUCKET, Key=name, Body=body, Metadata={"sha256": digest})
            key.acknowledged, key.asked = digest, set()
        elif choice < 0.7:
            key.asked.add(None)
            self.client.delete_object(Bucket=BUCKET, Key=name)
            key.acknowledged, key.asked = None, set()
        elif choice < 0.85:
            answer = self.client.put_object(Bucket=VERSIONED, Key=name, Body=body, Metadata={"sha256": digest})
            self.versions[name, answer["VersionId"]] = digest
        else:
            number = len(self.parts) + 1
            where = {"Bucket": BUCKET, "Key": f"upload-{self.number}", "UploadId": self.upload}
            self.parts[number] = self.client.upload_part(**where, PartNumber=number, Body=body)["ETag"]
        return 1

    def check(self) -> None:
        """Compare what the server has with what it acknowledged."""
        for name, key in self.keys.items():
            found = self._get(BUCKET, name)
            assert found in {key.acknowledged, *key.asked}, name
            key.acknowledged, key.asked = found, set()
        for (name, version), digest in self.versions.items():
            assert self._get(VERSIONED, name, VersionId=version) == digest, name
        where = {"Bucket": BUCKET, "Key": f"upload-{self.number}", "UploadId": self.upload}
        listed = {part["PartNumber"]: part["ETag"] for part in self.client.list_parts(**where).get("Parts", [])}
        assert self.parts.items() <= listed.items()

    def _get(self, bucket: str, key: str, **version: str) -> str | None:
        try:
            answer = self.client.get_object(Bucket=bucket, Key=key, **version)
        except self.client.exceptions.NoSuchKey:
            return None
        digest = hashlib.sha256(answer["Body"].read()).hexdigest()
        assert answer["Metadata"]["sha256"] == digest, f"{key} is torn"
        return digest


@pytest.mark.parametrize(
    "ends", [("kill",), pytest.param(("kill", "stop", "kill"), marks=pytest.mark.long)], ids=["a kill", "three ends"]
)
def test_what_was_acknowledged_survives(ends: Sequence[str]) -> None:
    with volume() as on, server(on) as made:
        made.start()
        client = made.s3(connect_timeout=30, read_timeout=30)
        client.create_bucket(Bucket=BUCKET)
        client.create_bucket(Bucket=VERSIONED)
        client.put_bucket_versioning(Bucket=VERSIONED, VersioningConfiguration={"Status": "Enabled"})
        writers = [Writer(made.s3(connect_timeout=30, read_timeout=30), number) for number in range(6)]
        for end in ends:
            before = sum(writer.acknowledged for writer in writers)
            stop = threading.Event()
            threads = [threading.Thread(target=writer.run, args=(stop,)) for writer in writers]
            for thread in threads:
                thread.start()
            until("enough writes", lambda: sum(writer.acknowledged for writer in writers) > before + 100)  # noqa: B023
            getattr(made, end)()
            stop.set()
            for thread in threads:
                thread.join()
            made.start()
            for writer in writers:
                writer.check()
            assert made.query("PRAGMA integrity_check") == [["ok"]]
        assert "ERROR" not in made.logs()


def test_a_full_disk_is_an_error_and_nothing_is_lost() -> None:
    size = ("--driver=local", "--opt=type=tmpfs", "--opt=device=tmpfs", "--opt=o=size=4m")
    # A tmpfs lasts as long as a container uses it, hence the shell.
    with volume(*size) as on, shell(on) as holder, server(on) as made:
        made.start()
        client = made.s3()
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="old", Body=b"whole", Tagging="old=yes")

        with pytest.raises(ClientError) as large:
            client.put_object(Bucket=BUCKET, Key="old", Body=b"x" * 5_000_000)
        assert large.value.response["ResponseMetadata"]["HTTPStatusCode"] == 507
        assert large.value.response["Error"]["Code"] == "InsufficientStorage"
        assert client.get_object(Bucket=BUCKET, Key="old")["Body"].read() == b"whole"

        kept: dict[str, bytes] = {}
        for length in (100_000, 1_000, 0):
            _fill_up(client, length, kept)

        def assert_whole() -> None:
            assert client.get_object(Bucket=BUCKET, Key="old")["Body"].read() == b"whole"
            listed = [entry["Key"] for page in _pages(client) for entry in page]
            assert sorted(listed) == sorted([*kept, "old"])
            for key, body in kept.items():
                assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body

        made.kill()
        made.start()
        assert_whole()

        # The way out of a full disk is to delete something.
        for key in [key for key in kept if key.startswith("100000")][:10]:
            client.delete_object(Bucket=BUCKET, Key=key)
            del kept[key]
        until("room", lambda: _succeeds(lambda: client.put_object(Bucket=BUCKET, Key="late", Body=b"l" * 200_000)))
        kept["late"] = b"l" * 200_000
        assert_whole()
        made.stop()
        made.start()
        assert_whole()
        assert docker("exec", holder, "df", "--output=size", DATA).split()[-1] == "4096"


def _fill_up(client: Any, length: int, kept: dict[str, bytes]) -> None:
    for number in range(10_000):
        key, body = f"{length}-{number}", b"%d" % number * (length // len(str(number)))
        try:
            client.put_object(Bucket=BUCKET, Key=key, Body=body)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 507:
                raise
            return
        kept[key] = body
    pytest.fail("the disk did not fill up")


def _pages(client: Any) -> Iterator[list[dict[str, Any]]]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        yield page.get("Contents", [])


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except ClientError:
        return False
    return True
