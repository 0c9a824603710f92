"""Each server that can be S3: what it answers, and that environments can do all that they do with it."""

import json
import os
import re
import signal
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest

from patience import until
from projects import belongings, project
from s3_differences import DIFFERENCES, SERVERS
from triton_env import Settings, TritonEnvironment, backup
from triton_env.core.setting_types import SecretStr
from triton_env.errors import InvalidSetting, PortTaken
from triton_env.persistent.choice import open_stack
from triton_env.persistent.settings import persistent_settings

ON_DOCKER = pytest.mark.docker
WAYS = [
    pytest.param(("docker", "localstack"), marks=ON_DOCKER, id="localstack"),
    pytest.param(("embedded", "moto"), id="moto"),
    pytest.param(("embedded", "seaweedfs"), id="seaweedfs"),
    # The image runs in the test of persistent services too.
    pytest.param(("docker", "seaweedfs"), marks=(ON_DOCKER, pytest.mark.long), id="seaweedfs-on-docker"),
]
TITLES = {"localstack": "LocalStack", "moto": "moto", "seaweedfs": "SeaweedFS"}


@pytest.fixture(scope="module", params=WAYS)
def env(request: pytest.FixtureRequest, embedded_packages: None) -> Iterator[TritonEnvironment]:
    runtime, server = request.param
    with TritonEnvironment(Settings(triton_s3_server=server), services=("s3",), runtime=runtime) as environment:
        yield environment


def server_of(env: TritonEnvironment) -> str:
    return str(env.settings.triton_s3_server)


def test_it_is_the_server_that_was_chosen(env: TritonEnvironment) -> None:
    version = SERVERS[server_of(env)].rpartition(" ")[2]
    assert env.s3.server_version().startswith(f"{TITLES[server_of(env)]} {version}")


def test_spaces_snapshots_and_backups(env: TritonEnvironment, tmp_path: Path) -> None:
    client = env.s3.client()
    client.put_object(Bucket=env.s3.bucket, Key="empty", Body=b"")
    client.put_object(Bucket=env.s3.bucket, Key="folder/ü", Body=b"1", Metadata={"n": "1"}, Tagging="a=b")
    client.create_bucket(Bucket="held", ObjectLockEnabledForBucket=True)
    until_then = datetime.now(UTC) + timedelta(days=1)
    held = client.put_object(
        Bucket="held", Key="key", Body=b"2", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until_then
    )
    client.create_bucket(Bucket="policy")
    resource = "arn:aws:s3:::policy/*"
    policy = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": resource}
    client.put_bucket_policy(Bucket="policy", Policy=json.dumps({"Version": "2012-10-17", "Statement": [policy]}))

    with env.namespace() as space:
        space.s3.client().put_object(Bucket=space.s3.bucket, Key="its", Body=b"own")
        assert keys(client, env.s3.bucket) == ["empty", "folder/ü"]
    path = tmp_path / "s3.backup"
    assert backup.create(env, path, services=("s3",)).services["s3"].notes == ()
    client.delete_object(Bucket="held", Key="key", VersionId=held["VersionId"], BypassGovernanceRetention=True)
    env.snapshot("before")
    client.delete_object(Bucket=env.s3.bucket, Key="empty")
    env.restore("before")
    assert keys(client, env.s3.bucket) == ["empty", "folder/ü"]

    client.put_object(Bucket=env.s3.bucket, Key="later", Body=b"3")
    backup.restore(env, path, services=("s3",), replace=True)
    assert keys(client, env.s3.bucket) == ["empty", "folder/ü"]
    found: Any = client.get_object(Bucket=env.s3.bucket, Key="folder/ü")
    assert (found["Body"].read(), found["Metadata"]) == (b"1", {"n": "1"})
    assert client.head_object(Bucket="held", Key="key")["ObjectLockMode"] == "GOVERNANCE"
    assert json.loads(client.get_bucket_policy(Bucket="policy")["Policy"])["Statement"][0]["Effect"] == "Deny"


def test_it_answers_as_the_table_says(env: TritonEnvironment) -> None:
    from botocore.config import Config

    client: Any = env.s3.client(config=Config(retries={"total_max_attempts": 1}))
    found, expected = {}, {}
    for number, each in enumerate(DIFFERENCES):
        bucket = f"probe-{number}"
        client.create_bucket(Bucket=bucket)
        found[each.subject] = each.probe(client, bucket)
        expected[each.subject] = getattr(each, server_of(env))
    assert found == expected


def keys(client: Any, bucket: str) -> list[str]:
    return [each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", ())]


def test_nothing_but_s3_is_open(embedded_packages: None) -> None:
    """On every port of SeaweedFS, a program without its keys and certificate is refused."""
    with TritonEnvironment(Settings(triton_s3_server="seaweedfs"), services=("s3",), runtime="embedded") as env:
        env.s3.client().put_object(Bucket=env.s3.bucket, Key="key", Body=b"secret content")
        server = process_that_listens(env.s3.port)
        # The last of its servers comes some time after S3.
        assert until(lambda: len(listening(server)) == 10)
        main, ports = env.s3.port, listening(server)
        assert {host for host, _ in ports} == {"127.0.0.1"}
        if sys.platform.startswith("linux"):
            status = Path(f"/proc/{server.pid}/status").read_text()
            assert {int(found, 16) for found in re.findall(r"^Cap(?:Inh|Prm|Eff|Amb):\s*(\w+)$", status, re.M)} == {0}
            assert server.uids().effective != 0
        answers = {port: answers_on(port) for _, port in ports}
        sockets = [each.laddr for each in server.net_connections("unix") if str(each.laddr).startswith("/tmp/")]
        assert sockets
    assert answers.pop(main) == {403}
    # Plain HTTP where nothing is served or a token is asked for, and gRPC for those that have its certificate.
    assert all(found <= {200, 401, 404} or found == {"no certificate"} for found in answers.values()), answers
    assert sum(found == {"no certificate"} for found in answers.values()) == 5
    assert not [path for path in sockets if os.path.exists(path)]


@pytest.mark.parametrize("victim", ["what starts it", "itself", "all of it"])
def test_killed_seaweedfs_leaves_nothing_in_the_folder_of_all(embedded_packages: None, victim: str) -> None:
    with TritonEnvironment(Settings(triton_s3_server="seaweedfs"), services=("s3",), runtime="embedded") as env:
        server = process_that_listens(env.s3.port)
        starter = server.parent()
        assert starter is not None
        assert until(lambda: len(listening(server)) == 10)
        sockets = [each.laddr for each in server.net_connections("unix") if str(each.laddr).startswith("/tmp/")]
        assert sockets
        if victim == "all of it":
            os.killpg(starter.pid, signal.SIGKILL)
        else:
            (starter if victim == "what starts it" else server).kill()
        assert until(lambda: not [path for path in sockets if os.path.exists(path)])
        assert until(lambda: not server.is_running())


def process_that_listens(port: int) -> psutil.Process:
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if ("127.0.0.1", port) in listening(process):
                return process
    raise AssertionError(f"no child of this process listens on {port}")


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    found = process.net_connections("tcp")
    return {(each.laddr.ip, each.laddr.port) for each in found if each.status == psutil.CONN_LISTEN}


def answers_on(port: int) -> set[int | str]:
    """What a stranger is answered on a port: statuses of HTTP, or that TLS asks for a certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain, suppress(OSError):
        try:
            with context.wrap_socket(plain) as secure:
                # With TLS 1.3 the refusal comes after the handshake.
                secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
                while secure.recv(1024):
                    pass
        except ssl.SSLError as error:
            if "CERTIFICATE" in str(error).upper():
                return {"no certificate"}
    found: set[int | str] = set()
    for path in ("/", "/dir/assign", "/buckets/", "/vol/status", "/cluster/status", "/metrics", "/debug/pprof/"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
                assert b"secret content" not in answer.read()
                found.add(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                found.add(error.code)
    return found


@pytest.mark.parametrize(("runtime", "server"), [("embedded", "localstack"), ("docker", "moto")])
def test_a_server_that_a_runtime_does_not_have_is_refused(runtime: str, server: str) -> None:
    with pytest.raises(InvalidSetting, match=f"{TITLES[server]} runs on .* alone") as raised:
        TritonEnvironment(Settings(triton_s3_server=server), services=("s3",), runtime=runtime).start()
    assert "TRITON_S3_SERVER" in str(raised.value)


def test_without_a_choice_of_runtime_it_is_one_that_has_the_server(embedded_packages: None) -> None:
    with TritonEnvironment(Settings(triton_s3_server="moto"), services=("s3",)) as env:
        assert (env.runtime, env.s3.server_version()[:4]) == ("embedded", "moto")
        assert "moto runs on the embedded runtime alone" in env.runtime_reason


@ON_DOCKER
def test_persistent_seaweedfs_keeps_what_it_acknowledged(engine: docker.DockerClient) -> None:
    def names(settings: Settings) -> tuple[list[str], list[str]]:
        containers, _, volumes = belongings(settings.triton_project)
        return containers, volumes

    with project(triton_s3_server="seaweedfs", aws_secret_access_key=SecretStr("a secret of ours")) as settings:
        mine = f"{settings.triton_project}-seaweedfs-1"
        with TritonEnvironment(settings, services=("s3",), persistent=True) as env:
            assert env.s3.server_version() == SERVERS["seaweedfs"]
            assert env.s3.port == env.settings.localstack_port
            client = env.s3.client()
            client.create_bucket(Bucket="held", ObjectLockEnabledForBucket=True)
            client.put_object(Bucket="held", Key="key", Body=b"1", ObjectLockLegalHoldStatus="ON")
            for number in range(50):
                client.put_object(Bucket=env.s3.bucket, Key=f"{number:02}", Body=b"%d" % number)
            engine.containers.get(mine).kill("SIGKILL")

        with TritonEnvironment(settings, services=("s3",), persistent=True) as env:
            client = env.s3.client()
            bodies = [
                client.get_object(Bucket=env.s3.bucket, Key=key)["Body"].read() for key in keys(client, env.s3.bucket)
            ]
            assert bodies == [b"%d" % number for number in range(50)]
            assert client.head_object(Bucket="held", Key="key")["ObjectLockLegalHoldStatus"] == "ON"
            # Beside it: its name is not that of the other server, its port is.
            other = settings.updated(triton_s3_server="localstack")
            with pytest.raises(PortTaken, match=mine):
                TritonEnvironment(other, services=("s3",), persistent=True).start()
            assert names(settings) == ([mine], [f"{settings.triton_project}_seaweedfs_data"])
        open_stack(persistent_settings(settings)).down()
        assert names(settings) == ([], [f"{settings.triton_project}_seaweedfs_data"])
