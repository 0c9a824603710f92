"""What a web page of any site can do to LocalStack, which does not check keys: nothing, in a session either."""

import functools
import http.client
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from persistence.localstack_server import server, volume
from triton_env import Settings, TritonEnvironment

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

NAME = "engine.example.net"
PAGE = {"Origin": "https://example.org"}
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\npage\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\ncontent\r\n--x--\r\n'
)


@dataclass(frozen=True)
class Instance:
    """Where a LocalStack answers, and what makes clients for it."""

    port: int
    s3: Callable[[], Any]


# The same guard is in both.
@pytest.fixture(scope="module", params=[pytest.param("persistent", marks=pytest.mark.long), "session"])
def instance(request: pytest.FixtureRequest) -> Iterator[Instance]:
    if request.param == "session":
        # As if the engine were on another machine, whose name its LocalStack has to learn.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TC_HOST", NAME)
            patch.setattr(socket, "getaddrinfo", functools.partial(addresses, socket.getaddrinfo))
            settings = Settings(triton_bind_address="127.0.0.1")
            with TritonEnvironment(settings, runtime="docker", services=("s3",)) as env:
                assert env.s3.host == NAME
                yield filled(Instance(env.s3.port, env.s3.client))
        return
    with volume() as name, server(name, LOCALSTACK_HOST=NAME) as made:
        made.start()
        yield filled(Instance(made.port, made.s3))


def addresses(inner: Callable[..., Any], host: Any, *arguments: Any, **keywords: Any) -> Any:
    return inner("127.0.0.1" if host == NAME else host, *arguments, **keywords)


def filled(instance: Instance) -> Instance:
    instance.s3().create_bucket(Bucket="claims")
    instance.s3().put_object(Bucket="claims", Key="kept", Body=b"kept")
    return instance


def answer(
    instance: Instance, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=120)
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        response.read()
        return response
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "headers", "body"),
    [
        ("GET", "/claims/kept", PAGE, None),
        ("GET", "/", PAGE, None),
        ("DELETE", "/claims/kept", {"Origin": ""}, None),
        ("PUT", "/claims/page", {"Origin": "null"}, b"x"),
        ("DELETE", "/claims/kept", {"Origin": "https://app.localstack.cloud"}, None),
        ("POST", "/claims", PAGE | {"Content-Type": "multipart/form-data; boundary=x"}, FORM),
        (
            "POST",
            "/claims?delete",
            PAGE | {"Content-Type": "text/plain"},
            b"<Delete><Object><Key>kept</Key></Object></Delete>",
        ),
        ("POST", "/_localstack/health", PAGE | {"Content-Type": "text/plain"}, b'{"action": "restart"}'),
        ("OPTIONS", "/claims/kept", PAGE | {"Access-Control-Request-Method": "PUT"}, None),
        ("GET", "/claims/kept", {"Host": "example.org:4566"}, None),
        ("GET", "/claims/kept", {"Host": "127.0.0.1.example.org"}, None),
        ("GET", "/claims/kept", {"Host": "localstack.xn--p1ai"}, None),
        ("PUT", "/claims/page", {"Host": "claims.s3.example.org", "Origin": "http://claims.s3.example.org"}, b"x"),
    ],
)
def test_a_page_gets_nothing(
    instance: Instance, method: str, path: str, headers: Mapping[str, str], body: bytes | None
) -> None:
    response = answer(instance, method, path, headers, body)
    assert response.status == 403
    assert not [name for name, _ in response.getheaders() if name.lower().startswith("access-control")]
    assert [each["Key"] for each in instance.s3().list_objects_v2(Bucket="claims")["Contents"]] == ["kept"]


@pytest.mark.parametrize(
    "host",
    [
        *("localhost:4566", "[::1]", "172.17.0.1", "host.docker.internal", "claims.s3.localhost.localstack.cloud:4566"),
        *(f"{NAME}:4566", "localstack:4566", "localstack.app_default:4566", "triton-1a2b-s3.triton-network-1a2b"),
        *("s3.test", "triton-1a2b3c4d-s3.default.svc"),
    ],
)
def test_names_that_no_stranger_leads_here_are_answered(instance: Instance, host: str) -> None:
    path = "/kept" if host.startswith("claims") else "/claims/kept"
    assert answer(instance, "GET", path, {"Host": host}).status == 200


def test_pages_that_a_bucket_names_get_in(instance: Instance) -> None:
    rule = {"AllowedOrigins": ["https://*.example.net"], "AllowedMethods": ["GET"], "AllowedHeaders": ["*"]}
    instance.s3().create_bucket(Bucket="shared")
    instance.s3().put_object(Bucket="shared", Key="a", Body=b"a")
    instance.s3().put_bucket_cors(Bucket="shared", CORSConfiguration={"CORSRules": [rule]})
    for origin, status in (("https://app.example.net", 200), ("https://example.org", 403)):
        response = answer(instance, "GET", "/shared/a", {"Origin": origin})
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (
            status,
            origin if status == 200 else None,
        )
    preflight = {"Origin": "https://app.example.net", "Access-Control-Request-Method": "GET"}
    assert answer(instance, "OPTIONS", "/shared/a", preflight).status == 200
