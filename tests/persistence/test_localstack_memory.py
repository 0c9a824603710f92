"""Bodies that are larger than the server's memory, both ways, and clients that read slowly."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from persistence.localstack_server import Server, docker, server, volume

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

LIMIT = 320
"""Megabytes of the container. The server itself takes about 170."""
SIZE = 200 << 20
"""Bytes of a body: one of them in memory is more than the server has left."""
KEY = "large"


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with little memory, and a large object in it."""
    source = tmp_path_factory.mktemp("bodies") / "large"
    with source.open("wb") as file:
        file.truncate(SIZE)
    limit = f"{LIMIT}m"
    with volume() as name, server(name, f"--memory={limit}", f"--memory-swap={limit}") as made:
        made.start()
        client = made.s3()
        client.create_bucket(Bucket="claims")
        with source.open("rb") as file:
            client.put_object(Bucket="claims", Key=KEY, Body=file)
        yield made


def began(instance: Server) -> str:
    """What changes if the server ends or is started again."""
    return docker("inspect", "--format={{.State.StartedAt}} {{.State.Running}} {{.State.OOMKilled}}", instance.name)


def read_a_little(instance: Server, url: str, **headers: str) -> tuple[http.client.HTTPConnection, int]:
    """Ask for an object and read one byte of it. Returns the connection, which goes on, and how much is left."""
    connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=120)
    connection.connect()
    # What the kernel takes is no longer the server's.
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    connection.request("GET", url.partition(f":{instance.port}")[2], headers=headers)
    response = connection.getresponse()
    assert response.status in (200, 206)
    assert len(response.read(1)) == 1
    connection.response = response  # type: ignore[attr-defined]
    return connection, int(response.headers["Content-Length"]) - 1


def test_readers_that_stop_reading_cost_no_memory(small_server: Server) -> None:
    before, client = began(small_server), small_server.s3()
    url = client.generate_presigned_url("get_object", Params={"Bucket": "claims", "Key": KEY})
    with ExitStack() as stack:
        readers = [read_a_little(small_server, url) for _ in range(5)]
        readers += [read_a_little(small_server, url, Range=f"bytes=100-{SIZE - 1}")]
        for connection, _ in readers:
            stack.enter_context(closing(connection))
        # The server goes on working for others, also with the same object.
        for _ in range(20):
            client.put_object(Bucket="claims", Key="small", Body=b"x" * 200_000)
            assert len(client.get_object(Bucket="claims", Key="small")["Body"].read()) == 200_000
        assert client.head_object(Bucket="claims", Key=KEY)["ContentLength"] == SIZE
        # One that reads on gets all of it; one that goes away leaves nothing behind.
        for connection, left in (readers[0], readers[-1]):
            length = 0
            while part := connection.response.read(1 << 20):  # type: ignore[attr-defined]
                length += len(part)
            assert length == left
    assert began(small_server) == before
    client.put_object(Bucket="claims", Key="after", Body=b"x")


@pytest.mark.long
def test_large_bodies_are_taken_without_being_in_memory(small_server: Server, tmp_path: Path) -> None:
    before, client = began(small_server), small_server.s3()
    client.copy_object(Bucket="claims", Key="copy", CopySource=f"claims/{KEY}")
    upload = client.create_multipart_upload(Bucket="claims", Key="parts")["UploadId"]
    where = {"Bucket": "claims", "Key": "parts", "UploadId": upload}
    part = client.upload_part_copy(**where, PartNumber=1, CopySource=f"claims/{KEY}")["CopyPartResult"]["ETag"]
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]})
    form = client.generate_presigned_post("claims", "form")
    assert post(small_server, form["fields"]) == 204
    for key in ("copy", "parts", "form"):
        assert client.head_object(Bucket="claims", Key=key)["ContentLength"] == SIZE
    assert began(small_server) == before


def post(instance: Server, fields: dict[str, str]) -> int:
    """Send a large file as a browser's form does; the status of the answer."""
    boundary = "the-boundary"
    lines = [f'--{boundary}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items()]
    lines.append(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n')
    head, tail = "".join(lines).encode(), f"\r\n--{boundary}--\r\n".encode()
    with closing(http.client.HTTPConnection("127.0.0.1", instance.port, timeout=120)) as connection:
        connection.putrequest("POST", "/claims")
        connection.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
        connection.putheader("Content-Length", str(len(head) + SIZE + len(tail)))
        connection.endheaders(head)
        for _ in range(SIZE >> 20):
            connection.send(bytes(1 << 20))
        connection.send(tail)
        return connection.getresponse().status
