"""What the process environment and the home folder hold for other programs does not reach our clients."""

import os
from collections.abc import Iterator

import pytest
from botocore.config import Config

from patience import patient_probes
from triton_env import TritonEnvironment
from triton_env.core.model import Placement
from triton_env.core.setting_types import SecretStr
from triton_env.services import SERVICES

pytestmark = pytest.mark.timeout(400)

_ELSEWHERE = "192.0.2.1"
"""An address without a host (RFC 5737): what would be sent there fails, or hangs."""

_OF_LIBPQ = {
    "PGHOST": "/nowhere",
    "PGHOSTADDR": _ELSEWHERE,
    "PGPORT": "1",
    "PGUSER": "other",
    "PGDATABASE": "other",
    "PGPASSFILE": "/nowhere",
    "PGSERVICE": "other",
    "PGCONNECT_TIMEOUT": "soon",
    "PGOPTIONS": "-c search_path=x",
    "PGSSLMODE": "require",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLROOTCERT": "system",
    "PGSSLCERT": "/nowhere",
    "PGGSSENCMODE": "require",
    "PGREQUIREAUTH": "gss",
    "PGREQUIREPEER": "other",
    "PGCHANNELBINDING": "require",
    "PGTARGETSESSIONATTRS": "standby",
    "PGMINPROTOCOLVERSION": "3.2",
    "PGMAXPROTOCOLVERSION": "latest",
    "PGCLIENTENCODING": "LATIN1",
    "PGDATESTYLE": "German",
    "PGTZ": "Mars",
    "PGGEQO": "maybe",
}
_OF_BOTOCORE = {
    "AWS_PROFILE": "production",
    "AWS_SESSION_TOKEN": "of-production",
    "AWS_REGION": "eu-west-1",
    "AWS_ENDPOINT_URL_S3": f"http://{_ELSEWHERE}",
    "AWS_CA_BUNDLE": "/nowhere",
    "AWS_DATA_PATH": "/nowhere",
    "AWS_MAX_ATTEMPTS": "many",
    "AWS_RETRY_MODE": "other",
    "AWS_DEFAULTS_MODE": "other",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "other",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_S3_USE_ARN_REGION": "true",
}
_OF_HTTP = {
    **dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), f"http://{_ELSEWHERE}:1"),
    "NO_PROXY": "",
    "no_proxy": "",
    "SSL_CERT_FILE": "/nowhere",
    "REQUESTS_CA_BUNDLE": "/nowhere",
}
_AWS_CONFIG = f"""\
[default]
endpoint_url = http://{_ELSEWHERE}
retry_mode = other
s3 =
    addressing_style = virtual
    use_accelerate_endpoint = true
"""


@pytest.fixture(scope="module")
def hostile(embedded_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonEnvironment]:
    """An environment that was started in such surroundings, which are still there."""
    home = tmp_path_factory.mktemp("home")
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text(_AWS_CONFIG)
    (home / ".pg_service.conf").write_text(f"[production]\nhost={_ELSEWHERE}\n")
    with pytest.MonkeyPatch.context() as monkeypatch, patient_probes():
        for name, value in (_OF_LIBPQ | _OF_BOTOCORE | _OF_HTTP | {"HOME": str(home)}).items():
            monkeypatch.setenv(name, value)
        with TritonEnvironment(runtime="embedded") as environment:
            yield environment


class TestOurClientsAreGivenEveryParameterByUs:
    def test_postgres(self, hostile: TritonEnvironment) -> None:
        with hostile.postgres.connect() as connection:
            (session,) = connection.execute(
                "select array[current_setting('client_encoding'), current_setting('datestyle'),"
                " current_setting('search_path'), current_setting('application_name')]"
            ).fetchone() or [None]
        assert session == ["UTF8", "ISO, MDY", '"$user", public', ""]

    @pytest.mark.parametrize("service", ["production", "other"])
    def test_postgres_with_a_service_file(
        self, hostile: TritonEnvironment, service: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PGSERVICE", service)
        with hostile.postgres.connect() as connection:
            assert connection.info.host == hostile.postgres.host
        assert os.environ["PGSERVICE"] == service

    async def test_the_asynchronous_ones(self, hostile: TritonEnvironment) -> None:
        async with await hostile.postgres.aconnect() as connection:
            cursor = await connection.execute("select 1")
            assert await cursor.fetchone() == (1,)
        client = await hostile.clickhouse.aclient()
        try:
            assert await client.command("select 1") == 1
        finally:
            await client.close()

    def test_clickhouse_and_redis(self, hostile: TritonEnvironment) -> None:
        client = hostile.clickhouse.client()
        assert client.command("select 1") == 1
        client.close()
        with hostile.redis.client() as redis:
            assert redis.ping()

    def test_s3_also_with_options_of_the_caller(self, hostile: TritonEnvironment) -> None:
        for client in (hostile.s3.client(), hostile.s3.client(config=Config(read_timeout=30))):
            client.put_object(Bucket=hostile.s3.bucket, Key="a", Body=b"a")
            assert client.meta.region_name == "us-east-1"
            assert client.generate_presigned_url("list_buckets").startswith(hostile.s3.endpoint_url)
            assert "of-production" not in client.generate_presigned_url("list_buckets")

    def test_namespaces_snapshots_and_reset(self, hostile: TritonEnvironment) -> None:
        with hostile.namespace() as space, space.postgres.connect() as connection:
            connection.execute("create table t as select 1")
        hostile.snapshot("one")
        hostile.restore("one")
        hostile.reset()


class TestARefusalIsNotWaitedFor:
    @pytest.mark.parametrize("name", ["postgres", "clickhouse", "redis"])
    def test_of_a_wrong_password(self, hostile: TritonEnvironment, name: str) -> None:
        kind = SERVICES[name]
        service = kind(hostile.settings.updated(**{f"{name}_password": SecretStr("wrong")}), self._place(hostile, name))
        with pytest.raises(Exception, match=r"(?i)password|516") as refusal:
            service.check_ready()
        assert service.refuses(refusal.value)

    @pytest.mark.parametrize("name", list(SERVICES))
    def test_but_a_server_that_is_not_there_yet_is(self, hostile: TritonEnvironment, name: str) -> None:
        place = self._place(hostile, name)
        unused = {port: type(endpoint)(endpoint.host, 1) for port, endpoint in place.endpoints.items()}
        service = SERVICES[name](hostile.settings, Placement(unused))
        with pytest.raises(Exception, match=r"(?i)refused|connect") as absence:
            service.check_ready()
        assert not service.refuses(absence.value)

    @staticmethod
    def _place(environment: TritonEnvironment, name: str) -> Placement:
        return environment.service(name).placement
