"""What a web page of any site can do to the persistent LocalStack, which does not check keys: nothing."""

import http.client
from collections.abc import Iterator, Mapping

import pytest

from persistence.localstack_server import Server, server, volume

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

PAGE = {"Origin": "https://example.org"}
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\npage\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\ncontent\r\n--x--\r\n'
)


@pytest.fixture(scope="module")
def instance() -> Iterator[Server]:
    with volume() as name, server(name) as made:
        made.start()
        made.s3().create_bucket(Bucket="claims")
        made.s3().put_object(Bucket="claims", Key="kept", Body=b"kept")
        yield made


def answer(
    instance: Server, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
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
        ("PUT", "/claims/page", {"Host": "claims.s3.example.org", "Origin": "http://claims.s3.example.org"}, b"x"),
    ],
)
def test_a_page_gets_nothing(
    instance: Server, method: str, path: str, headers: Mapping[str, str], body: bytes | None
) -> None:
    response = answer(instance, method, path, headers, body)
    assert response.status == 403
    assert not [name for name, _ in response.getheaders() if name.lower().startswith("access-control")]
    assert [each["Key"] for each in instance.s3().list_objects_v2(Bucket="claims")["Contents"]] == ["kept"]


@pytest.mark.parametrize(
    "host", ["localhost:4566", "[::1]", "172.17.0.1", "localstack:4566", "claims.s3.localhost.localstack.cloud:4566"]
)
def test_names_that_no_stranger_leads_here_are_answered(instance: Server, host: str) -> None:
    path = "/kept" if host.startswith("claims") else "/claims/kept"
    assert answer(instance, "GET", path, {"Host": host}).status == 200


def test_pages_that_a_bucket_names_get_in(instance: Server) -> None:
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
