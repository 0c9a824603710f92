"""S3: its clients, and how to know that it is ready."""

import functools
import json
import os
import re
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from secrets import token_hex
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from triton_env.core.model import Endpoint, Placement, ServiceRecipe, TakesOver
from triton_env.core.settings_group import Role
from triton_env.services import base
from triton_env.services.base import Service, known_password
from triton_env.services.parts import Parts
from triton_env.services.s3.bucket_names import BucketNames
from triton_env.services.s3.servers import choice
from triton_env.services.s3.settings import S3Settings
from triton_env.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client, S3ServiceResource


class AsyncS3:
    """The methods of a boto3 S3 client as coroutines, each run in a thread (boto3 clients are thread-safe).

    >>> import asyncio
    >>> asyncio.run(env.s3.aclient().head_bucket(Bucket=env.s3.bucket))["BucketRegion"]
    'us-east-1'
    """

    def __init__(self, client: "S3Client") -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not callable(attribute):
            return attribute

        @functools.wraps(attribute)
        async def in_thread(*args: Any, **kwargs: Any) -> Any:
            import asyncio

            return await asyncio.to_thread(attribute, *args, **kwargs)

        return in_thread


class S3(Service):
    """S3 where it runs.

    >>> env.s3.client().list_objects_v2(Bucket=env.s3.bucket, Prefix="nothing/")["KeyCount"]
    0

    Args:
        settings: names and credentials that the running server was given.
        placement: where it answers.
        names: under which real names clients find the buckets that they name.
    """

    name = "s3"
    title = "S3"
    driver = "boto3"
    aliases = ("localstack",)
    settings_group = S3Settings
    boot_rank = 40
    parts = Parts(
        isolation="triton_env.services.s3.isolation:S3Isolation",
        seeding="triton_env.services.s3.seeding:S3Seeding",
        diagnostics="triton_env.services.s3.diagnostics:S3Diagnostics",
        saver="triton_env.services.s3.backup:save",
        restorer="triton_env.services.s3.restore:S3Restorer",
        takeover="triton_env.services.s3.takeover:takeover",
        remains="triton_env.services.s3.remains:remains",
        way_in="triton_env.services.s3.shell:SHELL",
        checks="triton_env.services.s3.checks:CHECKS",
        insight="triton_env.services.s3.insight:S3Insight",
    )
    takes_over = TakesOver.IN_THE_END
    attributes = (*Service.attributes, "endpoint_url", "bucket", "region", "access_key", "secret_key")
    misleading = frozenset(
        f"AWS_{name}"
        for name in (
            *("ENDPOINT_URL_S3", "IGNORE_CONFIGURED_ENDPOINT_URLS", "PROFILE", "DEFAULT_PROFILE", "SESSION_TOKEN"),
            *("USE_FIPS_ENDPOINT", "USE_DUALSTACK_ENDPOINT"),
        )
    )

    def __init__(self, settings: Settings, placement: Placement, names: BucketNames | None = None) -> None:
        super().__init__(settings, placement)
        self._names = names or BucketNames()

    @classmethod
    def fresh_credentials(cls) -> Mapping[str, Any]:
        # LocalStack derives the account from keys of certain forms; this form means its default account.
        return {**super().fresh_credentials(), "aws_access_key_id": "TRITON" + token_hex(7).upper()}

    @classmethod
    def recipe(cls, settings: Settings) -> ServiceRecipe:
        recipe = cls._recipe(
            settings,
            container=choice.container(settings),
            process=choice.process(settings),
            data=choice.data(settings),
        )
        if not choice.checks_keys(settings):
            return recipe
        return replace(recipe, known_password=known_password(S3Settings, settings.group(S3Settings), Role.SECRET_KEY))

    def _with_names(self, names: BucketNames) -> "S3":
        """This server, for clients that find buckets under other real names; the expected one is among these."""
        settings = self._settings.updated(s3_bucket=names.real(self.bucket))
        return S3(settings, self.placement, names)._like(self)

    @classmethod
    def _fixed_port(cls, settings: Settings, name: str) -> int:
        """LOCALSTACK_PORT where it was set, else the port of AWS_ENDPOINT_URL."""
        port = super()._fixed_port(settings, name)
        if name in settings.model_fields_set:
            return port
        return urlsplit(settings.or_default("aws_endpoint_url")).port or port

    @property
    def endpoint_url(self) -> str:
        """The URL for `endpoint_url=` of any S3 client on this machine."""
        return self.url

    @property
    def bucket(self) -> str:
        """The bucket, which exists: in a namespace its real name, which clients take as they take the expected one."""
        return self._settings.s3_bucket

    @property
    def access_key(self) -> str:
        """The access key id."""
        return self._settings.aws_access_key_id

    @property
    def secret_key(self) -> str:
        """The secret access key. The embedded server checks it, LocalStack does not."""
        return self._settings.aws_secret_access_key.get_secret_value()

    @property
    def region(self) -> str:
        """The region."""
        return self._settings.aws_default_region

    def client(self, **options: Any) -> "S3Client":
        """A new boto3 client.

        Args:
            **options: keyword arguments of `boto3.session.Session.client`; they win over those worked out here. What a
                `config` leaves out stays as it is here.
        """
        with _SESSION_LOCK:
            client: S3Client = _session().client("s3", **self._connection(options))
        return self._attached(client)

    def resource(self, **options: Any) -> "S3ServiceResource":
        """A new boto3 resource; see `client`."""
        with _SESSION_LOCK:
            resource: S3ServiceResource = _session().resource("s3", **self._connection(options))
        self._attached(resource.meta.client)
        return resource

    def aclient(self, **options: Any) -> AsyncS3:
        """The methods of a boto3 client as coroutines; see `client`."""
        return AsyncS3(self.client(**options))

    def server_version(self) -> str:
        from http.client import HTTPConnection

        with closing(HTTPConnection(self.host, self.port, timeout=base.CONNECT_TIMEOUT)) as connection:
            connection.request("GET", "/_localstack/health")
            response = connection.getresponse()
            content = response.read()
            if response.status == 200 and "services" in (health := json.loads(content)):
                return f"LocalStack {health['version']}"
            # Other servers have at most this to say; SeaweedFS with its largest volume ("8000GB") in between.
            words = str(response.getheader("Server", "")).replace("/", " ").partition(" Python")[0]
            return re.sub(r" \d+GB\b", "", words)

    def missing(self) -> str:
        if self._has_bucket():
            return ""
        buckets = {bucket["Name"] for bucket in self._probe_client.list_buckets()["Buckets"]}
        return "" if self._names.expected(self.bucket) in buckets else f"bucket {self.bucket}"

    def ensure_ready(self) -> None:
        if self._has_bucket():
            return
        client = self._probe_client
        buckets = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        if self._names.expected(self.bucket) not in buckets:
            region = {} if self.region == "us-east-1" else {"LocationConstraint": self.region}
            client.create_bucket(
                Bucket=self.bucket,
                **({"CreateBucketConfiguration": region} if region else {}),  # type: ignore[arg-type]
            )
        client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)

    def check_ready(self) -> None:
        if not self._has_bucket():
            self._probe_client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)

    def _has_bucket(self) -> bool:
        """Whether the server lists the bucket; where it does not, boto3 knows why."""
        from triton_env.services.s3.requests import UnusualError, answered

        try:
            answered(self, self._names.real(self.bucket), list_type="2", max_keys="1")
        except UnusualError:
            return False
        return True

    def refuses(self, error: Exception) -> bool:
        from botocore.exceptions import ClientError

        return isinstance(error, ClientError) and error.response["ResponseMetadata"].get("HTTPStatusCode") in (401, 403)

    @functools.cached_property
    def _probe_client(self) -> "S3Client":
        """One client for all tries: building one takes longer than a try."""
        # The first request may have to wait for the provider.
        return self._hasty_client(base.CONNECT_TIMEOUT, 10)

    def _hasty_client(self, connect: float, read: float) -> "S3Client":
        """A client that tries each request once, with these timeouts in seconds."""
        from botocore.config import Config

        return self.client(config=Config(connect_timeout=connect, read_timeout=read, retries={"total_max_attempts": 1}))

    def _attached(self, client: "S3Client") -> "S3Client":
        self._names.attach(client)

        def tell_death(caught_exception: Exception | None, **_: object) -> None:
            # Before the client decides whether to try again.
            if caught_exception is not None and (died := self._died()):
                raise died.beside(caught_exception) from caught_exception

        client.meta.events.register_first("needs-retry.s3", tell_death)
        return client

    def _connection(self, options: Mapping[str, Any]) -> dict[str, Any]:
        from botocore.config import Config

        # Virtual-host addresses (BUCKET.127.0.0.1) do not exist here, and no proxy leads here. The one place for these:
        # what a client is given besides is merged into it.
        config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, proxies={})
        if given := options.get("config"):
            config = config.merge(given)
        return {
            "endpoint_url": self.endpoint_url,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "region_name": self.region,
            **options,
            "config": config,
        }

    @property
    def beside_url(self) -> str:
        return f"bucket {self.bucket}"

    def details(self) -> tuple[str, ...]:
        return f"{self.beside_url}, region {self.region}", f"key {self.access_key}, secret {self.secret_key}"

    def snippets(self) -> Mapping[str, str]:
        names = ("endpoint_url", "aws_access_key_id", "aws_secret_access_key", "region_name")
        connection = self._connection({})
        arguments = ", ".join(f"{name}={connection[name]!r}" for name in names)
        return {**super().snippets(), "Python": f'import boto3\nclient = boto3.client("s3", {arguments})'}

    def _url(self, endpoint: Endpoint) -> str:
        return f"http://{endpoint}"


_SESSION_LOCK = threading.Lock()
"""Sessions are not thread-safe, clients are:
https://boto3.amazonaws.com/v1/documentation/api/latest/guide/session.html#multithreading-or-multiprocessing-with-sessions
"""


@functools.cache
def _session() -> Any:
    """The session of all clients, to be used under the lock.

    It holds boto3's description of S3, which takes many times longer to read than a client takes to build. It is not
    boto3's default session, which others may change.
    """
    import boto3
    import botocore.session
    from botocore.configprovider import ConfigValueStore, ConstantProvider

    core = botocore.session.Session()
    # Each variable has botocore's own default, whatever AWS_PROFILE, AWS_ENDPOINT_URL_S3 or ~/.aws/config say.
    values = {name: variable[2] for name, variable in core.SESSION_VARIABLES.items()}
    values |= {"config_file": os.devnull, "credentials_file": os.devnull, "s3": None, "proxies_config": None}
    store = ConfigValueStore({name: ConstantProvider(value) for name, value in values.items()})
    core.register_component("config_store", store)
    return boto3.session.Session(botocore_session=core)


SERVICE = S3
