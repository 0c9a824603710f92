"""What embedded servers may do: the rights of their processes, the files that they open, and who they answer."""

import http.client
import json
import os
import pwd
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError
from clickhouse_connect.driver.exceptions import DatabaseError

import scratch
from patience import patient_probes
from triton_env import Settings, TritonEnvironment
from triton_env.errors import RuntimeUnavailable
from triton_env.runtimes.embedded import bases
from triton_env.runtimes.embedded.account import Account

pytestmark = [pytest.mark.usefixtures("embedded_packages"), pytest.mark.timeout(300)]

IS_ROOT = os.geteuid() == 0
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="capabilities and Landlock are of Linux")
PAGE = {"Origin": "https://example.org"}
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\npage\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\ncontent\r\n--x--\r\n'
)


@pytest.fixture(scope="module")
def env(embedded_packages: None, warm: Callable[[str], TritonEnvironment]) -> Iterator[TritonEnvironment]:
    with patient_probes():
        yield warm("embedded")


def processes(env: TritonEnvironment) -> tuple[dict[str, str], list[dict[str, str]]]:
    """What the kernel says about the rights of the guard, and of each process below it."""
    (guard,) = [each for each in psutil.Process().children() if f"triton-env-{env.id}" in " ".join(each.cmdline())]
    return _status(guard.pid), [_status(process.pid) for process in guard.children(recursive=True)]


def _status(pid: int) -> dict[str, str]:
    return _fields(Path(f"/proc/{pid}/status").read_text())


def _fields(status: str) -> dict[str, str]:
    lines = status.splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@LINUX
class TestRights:
    def test_servers_have_no_capability_and_get_none_back(self, env: TritonEnvironment) -> None:
        _, servers = processes(env)
        assert len(servers) >= len(env.services)
        for status in servers:
            sets = ["CapInh", "CapPrm", "CapEff", "CapAmb", *(["CapBnd"] if IS_ROOT else [])]
            assert {int(status[name], 16) for name in sets} == {0}
            assert status["NoNewPrivs"] == "1"
            if IS_ROOT:
                assert status["Groups"] == ""
                assert "0" not in (status["Uid"] + "\t" + status["Gid"]).split("\t")

    @pytest.mark.skipif(not IS_ROOT, reason="a user who is not root cannot give capabilities to a file")
    def test_a_program_with_capabilities_of_its_own_runs_without_them(self) -> None:
        """Packages of some servers set them. The kernel refuses to run one whose capabilities are out of its reach."""
        folder = scratch.folder()
        folder.chmod(0o755)
        program = shutil.copy(shutil.which("cat") or "", folder / "cat")
        # CAP_NET_ADMIN, CAP_IPC_LOCK and CAP_SYS_NICE, in effect: version 2 of vfs_cap_data in linux/capability.h
        os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000001, 0x805000, 0, 0, 0))
        code = (
            "import os, sys; from triton_env.servers.rights import become_ordinary; "
            "become_ordinary((61200, 61200), read_all=False, program=sys.argv[1]); "
            "os.execv(sys.argv[1], [sys.argv[1], '/proc/self/status'])"
        )
        done = subprocess.run([sys.executable, "-c", code, program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        status = _fields(done.stdout)
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        assert int(status["CapBnd"], 16) == 0x805000
        assert status["NoNewPrivs"] == "1"

    def test_the_guard_keeps_what_it_needs(self, env: TritonEnvironment) -> None:
        status, _ = processes(env)
        # DAC_OVERRIDE, DAC_READ_SEARCH, KILL, SETGID, SETUID, SETPCAP
        assert int(status["CapEff"], 16) & ~0x1E6 == 0
        assert int(status["CapInh"], 16) == 0

    def test_programs_that_postgres_starts_read_no_secrets(self, env: TritonEnvironment) -> None:
        if not IS_ROOT:
            pytest.skip("an ordinary user's servers are that user")
        with env.postgres.connect(autocommit=True) as connection:
            connection.execute("create temp table seen (line text)")
            connection.execute("copy seen from program 'id -u; cat /etc/shadow 2>&1; ls /root 2>&1; true'")
            lines = [line for (line,) in connection.execute("select line from seen").fetchall()]
            assert lines[0] not in {"0", "65534"}
            assert "root:" not in "".join(lines[1:])
            assert "Permission denied" in lines[1]
            with pytest.raises(Exception, match="ermission denied"):
                connection.execute("select pg_read_file('/etc/shadow')")

    def test_redis_is_not_reconfigured_by_its_clients(self, env: TritonEnvironment) -> None:
        with env.redis.client() as client:
            for command in (["CONFIG", "SET", "dir", "/tmp"], ["MODULE", "LOAD", "/tmp/x.so"], ["DEBUG", "RELOAD"]):
                with pytest.raises(Exception, match=r"protected config|not allowed"):
                    client.execute_command(*command)
        # A page's request, taken for commands one a line.
        assert raw(env.redis.host, env.redis.port, "POST", "/", PAGE, b"AUTH x\r\nFLUSHALL\r\n") is None


PROGRAM = r'''
import json
from triton_env import TritonEnvironment
with TritonEnvironment(services=("postgres",), runtime="embedded") as env:
    with env.postgres.connect(autocommit=True) as connection:
        connection.execute("create temp table seen (line text)")
        # Tabs separate columns.
        connection.execute("""copy seen from program 'tr "[:blank:]" " " < /proc/self/status'""")
        print(json.dumps([line for (line,) in connection.execute("select line from seen").fetchall()]))
'''
UNPRIVILEGED = ("setpriv", "--reuid", "nobody", "--regid", "12345", "--clear-groups")
DOCKERS = "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod"
WAYS = {
    # What Docker leaves to root in a container.
    "container": ("setpriv", f"--bounding-set=-all,+{',+'.join(DOCKERS.split())}", "--inh-caps=-all"),
    "user namespace": (*UNPRIVILEGED, "unshare", "--user", "--map-root-user"),
    "user with capabilities": (*UNPRIVILEGED, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
}


@LINUX
@pytest.mark.skipif(not IS_ROOT, reason="only root can become all of these")
@pytest.mark.parametrize(
    "way", ["user namespace", *(pytest.param(way, marks=pytest.mark.long) for way in WAYS if way != "user namespace")]
)
def test_programs_that_postgres_starts_have_no_capability(way: str) -> None:
    python = next((each for each in (sys.executable, "/usr/bin/python3") if _can_run(WAYS[way], each)), "")
    if not python:
        pytest.skip("such users can run no Python of this version here")
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        os.chown(home, pwd.getpwnam("nobody").pw_uid, 12345)
        folders = {"HOME": home, "XDG_CACHE_HOME": home, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            (*WAYS[way], python, "-W", "ignore", "-c", PROGRAM),
            capture_output=True,
            text=True,
            cwd="/",
            env=dict(os.environ) | folders | {"TRITON_POSTGRES_TIMEOUT": "300"},
        )
    assert done.returncode == 0, done.stderr
    status = dict(line.partition(":")[::2] for line in json.loads(done.stdout))
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert int(status["NoNewPrivs"]) == 1
    assert "0" not in status["Uid"].split()


def _can_run(way: tuple[str, ...], python: str) -> bool:
    """Whether an interpreter, which has the version of this one, can be run that way."""
    print_version = (python, "-c", "import sys; print(*sys.version_info[:2])")
    done = subprocess.run((*way, *print_version), capture_output=True, text=True)
    return done.stdout.split() == [str(number) for number in sys.version_info[:2]]


@LINUX
class TestClickHouseFiles:
    @pytest.mark.parametrize(
        "query",
        [
            "SELECT * FROM file('/etc/passwd', 'LineAsString')",
            "SELECT * FROM file('../../../../../../../etc/passwd', 'LineAsString')",
            "SELECT * FROM file(concat('/etc', '/passwd'), 'LineAsString')",
            "SELECT * FROM url('file:///etc/passwd', 'LineAsString')",
            "SELECT file('/etc/passwd')",
            "SELECT * FROM sqlite('/var/lib/x.db', 't')",
            "SELECT * FROM sqlite('/etc/passwd', 't')",
            "CREATE DATABASE outside ENGINE = SQLite('/var/lib/x.db')",
            "SELECT * FROM icebergLocal('/etc/')",
            "SELECT * FROM deltaLakeLocal('/etc/')",
            "SELECT * FROM file('/proc/self/root/etc/passwd', 'LineAsString', 'line String')",
            "ATTACH TABLE outside FROM '/etc/' (line String) ENGINE = File(LineAsString)",
            "CREATE TABLE outside (a String, b String) ENGINE = EmbeddedRocksDB(0, '/etc') PRIMARY KEY a",
            "SELECT 1 AS x FORMAT Template SETTINGS format_template_row = '/etc/passwd'",
            "SELECT * FROM executable('id', 'TSV', 'x String')",
            "SELECT * FROM odbc('DSN=x', 'a', 'b')",
            "SELECT * FROM jdbc('jdbc:x', 'a', 'b')",
            "INSERT INTO FUNCTION file('/tmp/triton-env-outside', 'TSV', 'x String') VALUES ('x')",
            "SELECT 1 INTO OUTFILE '/tmp/triton-env-outside'",
            "BACKUP DATABASE triton TO File('/tmp/triton-env-outside')",
        ],
    )
    def test_outside_of_its_folder_nothing_is_read_or_written(self, env: TritonEnvironment, query: str) -> None:
        with pytest.raises(DatabaseError) as caught:
            env.clickhouse.client().command(query)
        assert re.search(
            r"denied|not allowed|DENIED|exist inside|not inside|allowed_path|atomic rename", str(caught.value)
        )
        assert not Path("/tmp/triton-env-outside").exists()

    def test_nor_through_tables_and_dictionaries(self, env: TritonEnvironment) -> None:
        client = env.clickhouse.client()
        client.command("CREATE TABLE outside (line String) ENGINE = File(LineAsString, '/etc/passwd')")
        with pytest.raises(DatabaseError, match="ermission denied"):
            client.query("SELECT * FROM outside")
        client.command("DROP TABLE outside")
        client.command(
            "CREATE DICTIONARY outside (line String) PRIMARY KEY line LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0)"
            " SOURCE(FILE(path '/etc/passwd' format 'LineAsString'))"
        )
        with pytest.raises(DatabaseError, match=r"denied|DENIED"):
            client.command("SYSTEM RELOAD DICTIONARY outside")
        client.command("DROP DICTIONARY outside")

    @pytest.mark.parametrize("source", ["EXECUTABLE", "`executable`", r"`\x65xecutable`", "executable_pool"])
    def test_no_program_is_started(self, env: TritonEnvironment, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
        client = env.clickhouse.client()
        create = (
            "CREATE DICTIONARY started (line String) PRIMARY KEY line LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0)"
            f" SOURCE({source}(COMMAND 'id' FORMAT 'LineAsString'))"
        )
        with pytest.raises(DatabaseError, match="DENIED"):
            client.command(create)

    def test_links_and_patterns_lead_nowhere(self, env: TritonEnvironment) -> None:
        client = env.clickhouse.client()
        assert client.query("SELECT * FROM file('/etc/pass*', 'LineAsString', 'line String')").result_rows == []
        folder = Path(client.command("SELECT path FROM system.disks WHERE name = 'default'"), "user_files")
        (folder / "link").symlink_to("/etc/passwd")
        with pytest.raises(DatabaseError, match="denied"):
            client.command("SELECT * FROM file('link', 'LineAsString')")

    @pytest.mark.parametrize("name", ["stdin", "-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
    def test_the_passwords_that_it_was_started_with_are_not_read(self, env: TritonEnvironment, name: str) -> None:
        try:
            found = env.clickhouse.client().query(f"SELECT * FROM file('{name}', 'LineAsString', 'line String')")
        except DatabaseError as error:
            assert "denied" in str(error) or "doesn't exist" in str(error)  # noqa: PT017 - an empty result is as good
        else:
            assert found.result_rows == []

    def test_its_own_files_are_there(self, env: TritonEnvironment) -> None:
        client = env.clickhouse.client()
        client.command("INSERT INTO FUNCTION file('own.tsv', 'TSV', 'x String') VALUES ('mine')")
        assert client.command("SELECT * FROM file('own.tsv', 'TSV', 'x String')") == "mine"
        client.command("CREATE TABLE own (x String) ENGINE = File(TSV)")
        client.command("INSERT INTO own VALUES ('mine')")
        assert client.command("SELECT * FROM own") == "mine"
        client.command("DROP TABLE own")


def raw(
    host: str, port: int, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
) -> http.client.HTTPResponse | None:
    """The answer to a request as a browser may send it; None where the server just hangs up."""
    connection = http.client.HTTPConnection(host, port, timeout=200)
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        response.read()
        return response
    except (http.client.HTTPException, ConnectionError):
        return None
    finally:
        connection.close()


def client(
    env: TritonEnvironment,
    secret: str | None = None,
    aws_session_token: str = "",
    endpoint_url: str = "",
    **options: Any,
) -> Any:
    """S3's client as an application builds it."""
    keys = {"aws_access_key_id": env.s3.access_key, "aws_secret_access_key": secret or env.s3.secret_key}
    keys |= {"aws_session_token": aws_session_token} if aws_session_token else {}
    config = Config(**{"signature_version": "s3v4", "retries": {"total_max_attempts": 1}, **options})
    return boto3.client(
        "s3", endpoint_url=endpoint_url or env.s3.endpoint_url, region_name="us-east-1", config=config, **keys
    )


class TestS3Door:
    @pytest.mark.parametrize(
        ("method", "path", "headers", "body"),
        [
            ("GET", "/", {}, None),
            ("GET", "/moto-api/data.json", {}, None),
            ("POST", "/moto-api/reset", PAGE, b""),
            ("POST", "/", PAGE | {"Content-Type": "text/plain"}, b"Action=ListUsers&Version=2010-05-08"),
            ("POST", "/triton-documents", PAGE | {"Content-Type": "multipart/form-data; boundary=x"}, FORM),
            ("POST", "/triton-documents", {"Content-Type": "multipart/form-data; boundary=x"}, FORM),
            ("PUT", "/triton-documents/page", {"Origin": "null"}, b"x"),
            ("OPTIONS", "/triton-documents/page", PAGE | {"Access-Control-Request-Method": "PUT"}, None),
            (
                "OPTIONS",
                "/",
                PAGE | {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Private-Network": "true"},
                None,
            ),
        ],
    )
    def test_a_page_gets_nothing(
        self, env: TritonEnvironment, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> None:
        assert env.s3.bucket == "triton-documents"
        response = raw(env.s3.host, env.s3.port, method, path, headers, body)
        assert response is not None
        assert response.status == 403
        assert not [name for name, _ in response.getheaders() if name.lower().startswith("access-control")]
        assert "page" not in {each["Key"] for each in client(env).list_objects_v2(Bucket=env.s3.bucket)["Contents"]}

    @pytest.fixture(autouse=True)
    def content(self, env: TritonEnvironment) -> None:
        env.s3.client().put_object(Bucket=env.s3.bucket, Key="a b+ü", Body=b"content", Metadata={"one_two": " a  b"})

    @pytest.mark.parametrize(
        "host", ["example.org", "example.org:4566", "127.0.0.1.example.org", "localhost.example.org"]
    )
    def test_a_name_that_leads_here_is_refused_whoever_signed(self, env: TritonEnvironment, host: str) -> None:
        signed = client(env).generate_presigned_url("get_object", Params={"Bucket": env.s3.bucket, "Key": "a b+ü"})
        address = f"{env.s3.host}:{env.s3.port}"
        path = signed.partition(address)[2]
        for name, status in ((address, 200), (host, 403)):
            response = raw(env.s3.host, env.s3.port, "GET", path, {"Host": name})
            assert response is not None
            assert response.status == status

    @pytest.mark.parametrize("version", ["s3v4", "s3"])
    @pytest.mark.parametrize("base", ["localhost", "s3.localhost", "s3.eu-central-1.localhost"])
    def test_a_bucket_of_any_name_can_be_in_the_host(
        self, env: TritonEnvironment, base: str, version: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lookup = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: lookup(env.s3.host, *rest, **more))
        path = client(env, signature_version=version)
        names = {"signature_version": version, "s3": {"addressing_style": "virtual"}}
        virtual = client(env, endpoint_url=f"http://{base}:{env.s3.port}", **names)
        assert env.s3.bucket in [each["Name"] for each in virtual.list_buckets()["Buckets"]]
        for bucket in (env.s3.bucket, "with.dots.in-it", "s3-like"):
            path.create_bucket(Bucket=bucket)
            virtual.put_object(Bucket=bucket, Key="in host +ü", Body=b"content")
            assert path.get_object(Bucket=bucket, Key="in host +ü")["Body"].read() == b"content"
            url = virtual.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "in host +ü"})
            assert url.startswith(f"http://{bucket}.{base}:")
            assert urllib3.request("GET", url).data == b"content"
            post = virtual.generate_presigned_post(bucket, "posted")
            assert urllib3.request("POST", post["url"], fields=post["fields"] | {"file": ("n", b"x")}).status == 204

    @pytest.mark.parametrize("version", ["s3v4", "s3"])
    def test_the_key_decides(self, env: TritonEnvironment, version: str) -> None:
        bucket, s3 = env.s3.bucket, client(env, signature_version=version)
        assert s3.get_object(Bucket=bucket, Key="a b+ü")["Metadata"] == {"one_two": "a  b"}
        assert s3.list_objects_v2(Bucket=bucket, Prefix="a b+")["KeyCount"] == 1
        assert s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "none"}]})["Deleted"]
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            client(env, secret="another", signature_version=version).list_buckets()
        get = {"ClientMethod": "get_object", "Params": {"Bucket": bucket, "Key": "a b+ü"}}
        url = s3.generate_presigned_url(**get)
        assert urllib3.request("GET", url).data == b"content"
        assert urllib3.request("DELETE", url).status == 403
        assert urllib3.request("GET", url.replace("b%2B", "c%2B")).status == 403
        expired = urllib3.request("GET", s3.generate_presigned_url(**get, ExpiresIn=-60))
        assert (expired.status, b"Request has expired" in expired.data) == (403, True)
        # Of what is signed as a header, one version puts more into the URL than the other.
        described: dict[str, Any] = {"Metadata": {"a": "b c"}, "ContentType": "text/x"}
        token = client(env, signature_version=version, aws_session_token="a+/=")
        for signing in (s3, token):
            url = signing.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "put", **described})
            headers = {"Content-Type": "text/x", "x-amz-meta-a": "b c"}
            assert urllib3.request("PUT", url, body=b"put", headers=headers).status == 200
            assert urllib3.request("PUT", url, body=b"put", headers=headers | {"x-amz-meta-a": "c"}).status == 403
        post = s3.generate_presigned_post(bucket, "posted")
        send = {"file": ("name", b"posted")}
        assert urllib3.request("POST", post["url"], fields=post["fields"] | send).status == 204
        forged = post["fields"] | {"policy": post["fields"]["policy"][:-4] + "AAA="}
        assert urllib3.request("POST", post["url"], fields=forged | send).status == 403

    @pytest.mark.parametrize("version", ["s3v4", "s3"])
    def test_a_form_uploads_what_its_policy_allows(self, env: TritonEnvironment, version: str) -> None:
        bucket, s3 = env.s3.bucket, client(env, signature_version=version)

        def status(content: bytes = b"posted", changed: Mapping[str, str] | None = None, **options: Any) -> int:
            post = s3.generate_presigned_post(bucket, "posts/${filename}", **options)
            fields = post["fields"] | (changed or {}) | {"file": ("name", content)}
            return urllib3.request("POST", post["url"], fields=fields).status

        size: dict[str, Any] = {"Conditions": [["content-length-range", 2, 6]]}
        assert [status(b"p" * length, **size) for length in (1, 2, 6, 7)] == [400, 204, 204, 400]
        assert status(ExpiresIn=-60) == 403
        assert [status(changed={"key": key}) for key in ("posts/other", "elsewhere")] == [204, 403]
        typed: dict[str, Any] = {"Conditions": [["eq", "$Content-Type", "text/plain"]]}
        assert [status(changed={"Content-Type": kind}, **typed) for kind in ("text/plain", "text/html")] == [204, 403]
        # What the policy does not name at all.
        assert status(changed={"acl": "public-read"}) == 403

    @pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""])
    def test_a_body_of_any_type_is_stored(self, env: TritonEnvironment, kind: str) -> None:
        bucket, s3 = env.s3.bucket, client(env)
        s3.put_object(Bucket=bucket, Key="typed", Body=b"a=1&b=2", **({"ContentType": kind} if kind else {}))
        assert s3.get_object(Bucket=bucket, Key="typed")["Body"].read() == b"a=1&b=2"
        # As curl --data-binary and urllib send it, whatever it is.
        url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "typed"})
        assert urllib3.request("PUT", url, body=b"b=3", headers={"Content-Type": kind} if kind else {}).status == 200
        assert s3.get_object(Bucket=bucket, Key="typed")["Body"].read() == b"b=3"

    def test_what_a_bucket_gives_to_everybody_is_read_and_nothing_else(self, env: TritonEnvironment) -> None:
        bucket, s3 = env.s3.bucket, client(env)
        s3.put_object(Bucket=bucket, Key="public", Body=b"public", ACL="public-read")
        url = f"{env.s3.endpoint_url}/{bucket}/public"
        assert urllib3.request("GET", url).data == b"public"
        for method, asked in (("GET", f"{url}?acl"), ("PUT", url), ("DELETE", url)):
            assert urllib3.request(method, asked).status == 403
        assert urllib3.request("GET", f"{env.s3.endpoint_url}/{bucket}").status == 403
        # Another object, whose name only looks like that one's.
        s3.put_object(Bucket=bucket, Key="/public", Body=b"private")
        assert urllib3.request("GET", f"{env.s3.endpoint_url}/{bucket}//public").status == 403

    def test_what_s3_refuses_is_refused(self, env: TritonEnvironment) -> None:
        s3, where = client(env), {"Bucket": env.s3.bucket}

        def code(call: str, **arguments: Any) -> str:
            with pytest.raises(ClientError) as raised:
                getattr(s3, call)(**arguments)
            return str(raised.value.response["Error"]["Code"])

        for name in ("UPPER", "a..b", "under_score", "192.168.1.1", "xn--a", "a" * 64, "-a-", "a-s3alias"):
            assert code("create_bucket", Bucket=name) == "InvalidBucketName", name
        for policy in ("not JSON", "[]", "{"):
            assert code("put_bucket_policy", **where, Policy=policy) == "MalformedPolicy"
        assert code("put_object", **where, Key="ü" * 513, Body=b"") == "KeyTooLongError"
        s3.put_object(**where, Key="ü" * 512, Body=b"")
        s3.delete_object(**where, Key="ü" * 512)

    def test_until_when_an_object_is_kept(self, env: TritonEnvironment) -> None:
        s3 = client(env)
        until_then = datetime(2090, 1, 2, 3, 4, 5, tzinfo=UTC)
        s3.create_bucket(Bucket="retention", ObjectLockEnabledForBucket=True)
        kept = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until_then}
        first = s3.put_object(Bucket="retention", Key="key", Body=b"1", **kept)["VersionId"]
        s3.put_object(Bucket="retention", Key="key", Body=b"2")
        found = s3.get_object_retention(Bucket="retention", Key="key", VersionId=first)["Retention"]
        assert found == {"Mode": "GOVERNANCE", "RetainUntilDate": until_then}
        for arguments, code in (
            ({"Bucket": "retention", "Key": "key"}, "NoSuchObjectLockConfiguration"),
            ({"Bucket": "retention", "Key": "no"}, "NoSuchKey"),
            ({"Bucket": env.s3.bucket, "Key": "a b+ü"}, "InvalidRequest"),
            ({"Bucket": "nowhere", "Key": "key"}, "NoSuchBucket"),
        ):
            with pytest.raises(ClientError) as raised:
                s3.get_object_retention(**arguments)
            assert raised.value.response["Error"]["Code"] == code

    def test_suspended_versioning_replaces_the_version_without_an_id_alone(self, env: TritonEnvironment) -> None:
        s3, where = client(env), {"Bucket": "suspended", "Key": "key"}

        def set_versioning(status: str) -> None:
            s3.put_bucket_versioning(Bucket="suspended", VersioningConfiguration={"Status": status})

        def seen() -> tuple[list[tuple[bool, bytes]], list[bool]]:
            """Of the versions whether they have no id, and their content; and of delete markers whether they do."""
            page = s3.list_object_versions(Bucket="suspended", Prefix="key")
            ids = [each["VersionId"] for each in page.get("Versions", ())]
            bodies = [s3.get_object(**where, VersionId=each)["Body"].read() for each in ids]
            markers = [each["VersionId"] == "null" for each in page.get("DeleteMarkers", ())]
            return [(each == "null", body) for each, body in zip(ids, bodies, strict=True)], markers

        s3.create_bucket(Bucket="suspended")
        s3.put_object(**where, Body=b"0")
        set_versioning("Enabled")
        first = s3.put_object(**where, Body=b"1")["VersionId"]
        set_versioning("Suspended")
        for body in (b"2", b"3"):
            s3.put_object(**where, Body=body)
        assert seen() == ([(True, b"3"), (False, b"1")], [])
        assert s3.get_object(**where)["Body"].read() == b"3"
        assert s3.head_object(**where, VersionId=first)["ContentLength"] == 1
        assert s3.delete_object(**where)["DeleteMarker"]
        assert seen() == ([(False, b"1")], [True])
        s3.delete_object(**where, VersionId="null")
        assert s3.get_object(**where)["Body"].read() == b"1"
        assert s3.delete_object(Bucket="suspended", Key="never")["DeleteMarker"]

    def test_a_bucket_with_objects_takes_a_default_retention(self, env: TritonEnvironment) -> None:
        s3 = client(env)
        s3.create_bucket(Bucket="default", ObjectLockEnabledForBucket=True)
        s3.put_object(Bucket="default", Key="before", Body=b"")
        rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
        s3.put_object_lock_configuration(
            Bucket="default", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
        )
        s3.put_object(Bucket="default", Key="after", Body=b"")
        assert "ObjectLockMode" not in s3.head_object(Bucket="default", Key="before")
        assert s3.get_object_retention(Bucket="default", Key="after")["Retention"]["Mode"] == "GOVERNANCE"

    def test_pages_that_the_bucket_names_get_in(self, env: TritonEnvironment) -> None:
        s3 = client(env)
        s3.create_bucket(Bucket="shared")
        s3.put_object(Bucket="shared", Key="a", Body=b"x")
        rule = {
            "AllowedOrigins": ["https://*.example.net"],
            "AllowedMethods": ["GET", "PUT"],
            "AllowedHeaders": ["x-*"],
        }
        s3.put_bucket_cors(Bucket="shared", CORSConfiguration={"CORSRules": [rule]})
        url = s3.generate_presigned_url("get_object", Params={"Bucket": "shared", "Key": "a"})
        for origin, status in (("https://app.example.net", 200), ("https://example.org", 403)):
            answer = urllib3.request("GET", url, headers={"Origin": origin})
            assert answer.status == status
            assert answer.headers.get("Access-Control-Allow-Origin") == (origin if status == 200 else None)
        for method, asked, status in (("PUT", "x-a", 200), ("PUT", "y", 403), ("DELETE", "x-a", 403)):
            preflight = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": asked}
            headers = {"Origin": "https://app.example.net", **preflight}
            assert urllib3.request("OPTIONS", f"{env.s3.endpoint_url}/shared/a", headers=headers).status == status


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary user's servers are that user")
def test_programs_that_the_servers_user_cannot_reach_run_from_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "can_read", lambda *_: False)
    with patient_probes(), TritonEnvironment(services=("postgres", "redis"), runtime="embedded") as env:
        assert env.redis.client().ping()
        with env.postgres.connect() as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        _, servers = processes(env)
        assert {int(status["CapEff"], 16) for status in servers} == {0}
        top = Path(psutil.Process(int(servers[0]["Pid"])).exe())
        assert f"triton-env-{env.id}" in str(top)


class TestFolderForTemporaryFiles:
    """Programs of this machine set TMPDIR to what they like, and root's may be closed to others."""

    ODD = "a b#%20$HOME;&()[]~!=+|<>`ä@^-"

    @pytest.fixture
    def here(self) -> Iterator[Path]:
        """A folder with a short path, that all can pass."""
        with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
            Path(folder).chmod(0o755)
            yield Path(folder)

    def test_servers_work_in_what_the_kernel_takes_for_a_name(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (here / self.ODD).mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(here / self.ODD))
        with patient_probes(), TritonEnvironment(Settings(triton_storage="disk"), runtime="embedded") as env:
            assert Path(env.postgres.placement.sockets or "").parents[1] == here / self.ODD
            self._use(env)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("a,b", "','"),
            ("a?b", "'?'"),
            ("a:b", "':'"),
            ("a*b", "'*'"),
            ("{data}", "'{' '}'"),
            ('a"b', "'\"'"),
            ("a'b", '"\'"'),
            ("a\\b", "'\\\\'"),
            ("a\nb", "'\\n'"),
            ("a\tb", "'\\t'"),
            (os.fsdecode(b"a\xffb"), "'\\udcff'"),
            ("a" * 60, "too long for Unix sockets"),
        ],
    )
    def test_what_servers_cannot_take_has_a_reason(self, here: Path, name: str, reason: str) -> None:
        (here / name).mkdir()
        assert reason in bases.problem_of(here / name)

    @pytest.mark.skipif(not IS_ROOT, reason="an ordinary user's servers are that user")
    def test_a_folder_that_is_closed_to_the_servers_has_a_reason(self, here: Path) -> None:
        (here / "closed" / "below").mkdir(parents=True)
        account = Account(uid=61184, gid=61184, named=65534)
        assert bases.problem_of(here / "closed" / "below", account) == ""
        (here / "closed").chmod(0o700)
        assert "closed to ordinary users" in bases.problem_of(here / "closed" / "below", account)

    def test_servers_work_in_another_folder_then(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        closed = here / "closed, home"
        closed.mkdir(mode=0o700)
        monkeypatch.setattr(tempfile, "tempdir", str(closed))
        with patient_probes(), TritonEnvironment(Settings(triton_storage="disk"), runtime="embedded") as env:
            directory = Path(env.postgres.placement.sockets or "").parent
            assert directory.parent == Path("/tmp")
            assert directory.exists()
            self._use(env)
        assert not directory.exists()
        assert "embedded servers work in /tmp, not in" in caplog.text

    def test_there_is_an_error_where_no_folder_will_do(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (here / "a,b").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(here / "a,b"))
        monkeypatch.setattr(bases, "_OTHERS", (str(here / "absent"),))
        with pytest.raises(RuntimeUnavailable, match="cannot be used either"):
            TritonEnvironment(services=("redis",), runtime="embedded").start()

    @staticmethod
    def _use(env: TritonEnvironment) -> None:
        with env.postgres.connect(autocommit=True) as connection:
            connection.execute("create table used as select 1")
        client = env.clickhouse.client()
        client.command("CREATE TABLE used (x Int32) ENGINE = MergeTree ORDER BY x")
        client.command("INSERT INTO FUNCTION file('used.tsv', 'TSV', 'x String') VALUES ('mine')")
        assert env.redis.client().set("used", 1)
        env.s3.client().put_object(Bucket=env.s3.bucket, Key="used", Body=b"used")


def test_a_link_within_a_closed_folder_is_not_a_way_for_others(tmp_path: Path) -> None:
    """Such as the environment of a project in a home folder of mode 0700 whose packages are elsewhere."""
    closed, link = tmp_path / "closed", tmp_path / "closed" / "lib"
    closed.mkdir(mode=0o700)
    link.symlink_to("/usr")
    account = Account(uid=61184, gid=61184, named=65534)
    assert account.can_pass(Path("/usr"))
    assert not account.can_pass(link)
