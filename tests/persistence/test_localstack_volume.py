"""Which volumes are refused, and how bodies come and go."""

import uuid
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from persistence.localstack_server import DATA, Server, docker, image, query, server, shell, until, volume

# Several starts of LocalStack take their time on a busy machine.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

BUCKET = "bucket"
S3 = f"{DATA}/s3"
BODIES = f"{S3}/data"


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with volume() as on, server(on) as made:
        made.start()
        made.s3().create_bucket(Bucket=BUCKET)
        yield made


def bodies(of: Server) -> set[str]:
    return set(of.run("find", BODIES, "-ignore_readdir_race", "-type", "f").split())


REFUSED = """
import pathlib
import sys
from localstack import constants
from localstack.services.s3 import models
from triton_persistence.errors import Refused
from triton_persistence.provider import PersistedS3Provider

def refusal(folder):
    try:
        PersistedS3Provider(pathlib.Path(folder))
    except Refused as refused:
        return refused

for folder in sys.argv[1:]:
    print(refusal(folder))

# Another LocalStack, before the volume is touched.
never = pathlib.Path("/tmp/never")
part = models.S3Part.__init__

def with_a_field_more(self, part_number):
    part(self, part_number)
    self.colour = "red"

models.S3Part.__init__ = with_a_field_more
print(refusal(never))
models.S3Part.__init__ = part
constants.VERSION = "4.15.0"
print(refusal(never))
print("touched:", never.exists())
"""


def test_a_refused_volume_stays_as_it_is(running: Server) -> None:
    """The container ends and says why. For further reasons the provider alone is asked, on copies of the folder."""
    client = running.s3()
    client.put_object(Bucket=BUCKET, Key="key", Body=b"body")
    # Killed, so that the last writes are in the database's log alone.
    running.kill()
    with shell(running.volume) as holder:

        def run(*command: str) -> str:
            return docker("exec", holder, *command)

        def content() -> str:
            # What SQLite keeps beside the file to read it, and our lock, are no data.
            return run("sh", "-c", f"find {S3}* -type f -size +0 ! -name '*-shm' -exec sha256sum {{}} + | sort")

        change = "UPDATE manifest SET value = '{}' WHERE name = '{}'"
        newer, damaged, bare = (f"{S3}-{name}" for name in ("newer", "damaged", "bare"))
        query((change.format("2", "format"),), "exec", "-i", holder)
        run("cp", "-a", S3, newer)
        query((change.format("1", "format"),), "exec", "-i", holder)
        run("sh", "-c", f"cp -a {S3} {bare} && rm {bare}/meta.db*")
        run("sh", "-c", f"cp -a {bare} {damaged} && yes damaged | head -c 40000 > {damaged}/meta.db")
        query((change.format("4.13.0", "localstack"),), "exec", "-i", holder)

        before = content()
        log = running.start_in_vain()
        assert f"{S3} was written with LocalStack 4.13.0, and this is LocalStack 4.14.0. Use what wrote it" in log
        said = run("python", "-W", "ignore", "-c", REFUSED, newer, damaged, bare).splitlines()
        of_newer, of_damaged, of_bare, of_field, of_version, touched = said
        assert f"{newer} was written with data format 2, and this is data format 1. Use what wrote it" in of_newer
        assert f"{damaged}/meta.db cannot be used: file is not a database" in of_damaged
        assert bare in of_bare
        assert "holds bodies of objects but no database" in of_bare
        assert "LocalStack's S3Part has other fields than this provider stores: ['colour']" in of_field
        assert "this provider is for LocalStack 4.14.0, and this is 4.15.0" in of_version
        assert touched == "touched: False"
        assert content() == before

        query((change.format("4.14.0", "localstack"),), "exec", "-i", holder)
        run("rm", "-r", newer, damaged, bare)
    running.start()
    assert client.get_object(Bucket=BUCKET, Key="key")["Body"].read() == b"body"


def test_the_manifest_can_be_read_from_the_main_file_alone(running: Server) -> None:
    script = (
        "import sqlite3; connection = sqlite3.connect("
        f"'file:{S3}/meta.db?mode=ro&immutable=1', uri=True); "
        "print(dict(connection.execute('SELECT name, value FROM manifest')))"
    )
    mount = f"--volume={running.volume}:{DATA}:ro"
    answer = docker("run", "--rm", mount, "--entrypoint=python", image(), "-c", script)
    assert answer == "{'format': '1', 'localstack': '4.14.0'}"


def test_a_second_server_on_the_volume_is_refused(running: Server) -> None:
    with server(running.volume) as second:
        assert "is locked: another LocalStack uses this volume" in second.start_in_vain()
    running.s3().put_object(Bucket=BUCKET, Key="after", Body=b"the second one")


def test_the_start_removes_what_was_cut_off_and_tells_what_is_lost(running: Server) -> None:
    client = running.s3()
    client.put_object(Bucket=BUCKET, Key="kept", Body=b"kept")
    before = bodies(running)
    client.put_object(Bucket=BUCKET, Key="lost", Body=b"lost")
    (lost,) = bodies(running) - before
    orphan = f"{BODIES}/ab/ab{uuid.uuid4().hex[2:]}"
    running.run("sh", "-c", f"rm {lost} && mkdir -p {BODIES}/ab && echo half > {orphan}")
    running.kill()
    running.start()
    assert bodies(running) == before
    assert client.get_object(Bucket=BUCKET, Key="kept")["Body"].read() == b"kept"
    with pytest.raises(ClientError, match="The body of this object is not in the volume"):
        client.get_object(Bucket=BUCKET, Key="lost")
    assert "S3: 1 bodies are missing or cut short" in running.logs()
    client.delete_object(Bucket=BUCKET, Key="lost")


def test_a_replaced_body_goes_and_its_reader_ends_in_peace(running: Server) -> None:
    client = running.s3()
    large = b"0123456789abcdef" * 2_000_000
    client.put_object(Bucket=BUCKET, Key="large", Body=large)
    before = bodies(running)
    answer = client.get_object(Bucket=BUCKET, Key="large")
    read = answer["Body"].read(1000)
    client.put_object(Bucket=BUCKET, Key="large", Body=b"new")
    replaced = before - until("the removal", lambda: (now := bodies(running)) and before - now and now)
    assert len(replaced) == 1
    assert read + answer["Body"].read() == large
    assert client.get_object(Bucket=BUCKET, Key="large")["Body"].read() == b"new"


def test_refused_requests_leave_nothing(running: Server) -> None:
    client = running.s3()
    client.put_object(Bucket=BUCKET, Key="good", Body=b"good")
    before = bodies(running)
    with pytest.raises(ClientError, match="BadDigest"):
        client.put_object(Bucket=BUCKET, Key="good", Body=b"bad", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=BUCKET, Key="good", Body=b"bad", IfNoneMatch="*")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        client.put_object(Bucket="nowhere", Key="good", Body=b"bad")
    assert client.get_object(Bucket=BUCKET, Key="good")["Body"].read() == b"good"
    assert bodies(running) == before
