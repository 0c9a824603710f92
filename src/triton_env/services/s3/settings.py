"""The settings of S3."""

from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from triton_env.core.setting_types import Name, PortNumber, Seconds, Secret, Text
from triton_env.core.settings_group import Role, SettingsGroup, UrlForm, setting, with_fields


def _is_http_url(text: str) -> str:
    parts = urlsplit(text)
    # Reading the port raises ValueError where it is none.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("it has to be a URL such as http://localhost:4566")
    return text


def _lost(url: SplitResult) -> str:
    return "has a path, which is not available" if url.path.strip("/") else ""


_URL = UrlForm(schemes=("http",), example="http://HOST:PORT", port=80, lost=_lost)

HttpUrl = Annotated[str, _is_http_url]
BucketName = Annotated[
    str, Text(pattern=r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", allowed="3 to 63 lower-case letters, digits, . and -")
]
Region = Annotated[
    str, Text(pattern=r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", allowed="at most 63 letters, digits and -")
]
"""What boto3 takes for one. It goes into XML and HTTP headers as it is."""


@with_fields
class S3Settings(SettingsGroup):
    """The settings of S3."""

    service = "s3"

    aws_endpoint_url: HttpUrl = setting(Role.URL, "URL, for applications.", default="http://localhost:4566", form=_URL)
    localstack_port: PortNumber = setting(
        Role.PORT,
        "Port of persistent services, and with `TRITON_PORTS=fixed`. Not set: that of `AWS_ENDPOINT_URL`.",
        default=4566,
        protocol="s3",
    )
    aws_access_key_id: Name = setting(Role.ACCESS_KEY, "Access key.", default="test")
    aws_secret_access_key: Secret = setting(Role.SECRET_KEY, "Secret key.", default=Secret("test"))
    aws_default_region: Region = setting(Role.REGION, "Region: letters, digits and hyphens.", default="us-east-1")
    s3_bucket: BucketName = setting(Role.BUCKET, "The bucket, which is created.", default="triton-documents")
    triton_s3_server: Literal["", "localstack", "moto", "seaweedfs"] = setting(
        Role.OTHER,
        "[The server](runtimes.md#s3-three-servers): `localstack` or `seaweedfs` on Docker, `moto` or `seaweedfs`"
        " embedded. Empty: LocalStack on Docker; embedded moto, and where data stays SeaweedFS.",
        default="",
    )
    localstack_auth_token: Secret = setting(
        Role.TOKEN,
        "Needed by LocalStack images newer than 4.14.0 (and by `latest`), which do not start without one; passed on to"
        " the container.",
        default=Secret(""),
    )
    localstack_host: str = setting(
        Role.SERVER_NAME,
        "The host name under which others reach persistent LocalStack, if it has a dot;"
        " [other names are refused](../security.md#web-pages). Empty: that of a remote engine.",
        default="",
    )
    extra_cors_allowed_origins: str = setting(
        Role.OTHER,
        "[Origins of web pages](../security.md#web-pages) that may use LocalStack whatever the CORS rules of a bucket"
        " say, with commas between them. Passed on to the container.",
        default="",
    )
    localstack_image: Name = setting(
        Role.IMAGE,
        "The image. The default is the newest that starts without a token.",
        default="localstack/localstack:4.14.0",
    )
    seaweedfs_image: Name = setting(
        Role.IMAGE, "The image of SeaweedFS, for `TRITON_S3_SERVER=seaweedfs`.", default="chrislusf/seaweedfs:4.48"
    )
    triton_s3_timeout: Seconds = setting(
        Role.TIMEOUT, "Seconds from a container's start until S3 has to be ready.", default=120
    )
