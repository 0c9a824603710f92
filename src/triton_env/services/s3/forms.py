"""The form of the records of a bucket in a backup."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field, StrictInt, TypeAdapter

_Words = dict[str, str]


class _Configuration(BaseModel):
    """That of a bucket; `configuration.malformed` looks at its other parts."""

    region: str
    versioning: str


class Bucket(BaseModel):
    """The first record: the bucket itself."""

    t: Literal["bucket"]
    configuration: _Configuration


class _Tag(BaseModel):
    Key: str
    Value: str


class _Grant(BaseModel):
    Grantee: _Words
    Permission: str


class _Acl(BaseModel):
    Grants: list[_Grant]
    Owner: _Words = {}


class _Lock(BaseModel):
    Mode: str = ""
    RetainUntilDate: AwareDatetime | None = None


class _Encryption(BaseModel):
    ServerSideEncryption: str


class _Version(BaseModel):
    key: str
    state: str
    size: Annotated[StrictInt, Field(ge=0)]


class _Marker(_Version):
    t: Literal["marker"]


class _Object(_Version):
    t: Literal["object"]
    headers: _Words
    metadata: _Words
    tags: list[_Tag] = []
    acl: _Acl | None = None
    lock: _Lock | None = None
    encryption: _Encryption | None = None
    checksum: str = ""


VERSION: TypeAdapter[Any] = TypeAdapter(Annotated[_Object | _Marker, Field(discriminator="t")])
"""An object or a delete marker; the records of its content follow."""
BUCKET: TypeAdapter[Any] = TypeAdapter(Bucket)
