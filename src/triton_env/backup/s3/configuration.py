"""The configuration of a bucket: what to ask for, and how to set it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a bucket's configuration.

    Attributes:
        name: its name in the archive.
        get: the client's method that reads it.
        put: the method that sets it.
        delete: the method that takes it away; empty where there is none.
        argument: the keyword argument of `put`.
        chosen: from the answer of `get`, the value of that argument; empty for nothing.
        absent: the error codes that mean that there is nothing.
    """

    name: str
    get: str
    put: str
    delete: str
    argument: str
    chosen: Callable[[Mapping[str, Any]], Any]
    absent: tuple[str, ...]


def _only(*names: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda answer: {name: answer[name] for name in names if name in answer}


PARTS = (
    # These two first: they decide what policies and ACLs may say.
    Part(
        "ownership",
        "get_bucket_ownership_controls",
        "put_bucket_ownership_controls",
        "delete_bucket_ownership_controls",
        "OwnershipControls",
        lambda answer: answer.get("OwnershipControls"),
        ("OwnershipControlsNotFoundError",),
    ),
    Part(
        "public_access_block",
        "get_public_access_block",
        "put_public_access_block",
        "delete_public_access_block",
        "PublicAccessBlockConfiguration",
        lambda answer: answer.get("PublicAccessBlockConfiguration"),
        ("NoSuchPublicAccessBlockConfiguration",),
    ),
    Part(
        "encryption",
        "get_bucket_encryption",
        "put_bucket_encryption",
        "delete_bucket_encryption",
        "ServerSideEncryptionConfiguration",
        lambda answer: answer.get("ServerSideEncryptionConfiguration"),
        ("ServerSideEncryptionConfigurationNotFoundError",),
    ),
    Part(
        "tags",
        "get_bucket_tagging",
        "put_bucket_tagging",
        "delete_bucket_tagging",
        "Tagging",
        _only("TagSet"),
        ("NoSuchTagSet",),
    ),
    Part(
        "cors",
        "get_bucket_cors",
        "put_bucket_cors",
        "delete_bucket_cors",
        "CORSConfiguration",
        _only("CORSRules"),
        ("NoSuchCORSConfiguration",),
    ),
    Part(
        "website",
        "get_bucket_website",
        "put_bucket_website",
        "delete_bucket_website",
        "WebsiteConfiguration",
        _only("RedirectAllRequestsTo", "IndexDocument", "ErrorDocument", "RoutingRules"),
        ("NoSuchWebsiteConfiguration",),
    ),
    Part(
        "acl",
        "get_bucket_acl",
        "put_bucket_acl",
        "",
        "AccessControlPolicy",
        _only("Grants", "Owner"),
        (),
    ),
    Part(
        "policy",
        "get_bucket_policy",
        "put_bucket_policy",
        "delete_bucket_policy",
        "Policy",
        lambda answer: answer.get("Policy"),
        ("NoSuchBucketPolicy",),
    ),
    # Last: it may remove objects.
    Part(
        "lifecycle",
        "get_bucket_lifecycle_configuration",
        "put_bucket_lifecycle_configuration",
        "delete_bucket_lifecycle",
        "LifecycleConfiguration",
        _only("Rules"),
        ("NoSuchLifecycleConfiguration",),
    ),
)


def read(client: "S3Client", bucket: str) -> dict[str, Any]:
    """The configuration of a bucket, as data that JSON can hold, with its region and versioning."""
    # None for the oldest region, whatever the type says.
    region: str | None = client.get_bucket_location(Bucket=bucket).get("LocationConstraint")
    found: dict[str, Any] = {
        "region": region or "us-east-1",
        "versioning": client.get_bucket_versioning(Bucket=bucket).get("Status", ""),
    }
    for part in PARTS:
        if value := _ask(client, part, bucket):
            found[part.name] = value
    return found


def apply(
    client: "S3Client", bucket: str, configuration: Mapping[str, Any], known: Mapping[str, Any] | None = None
) -> None:
    """Give a bucket this configuration, all but its versioning. What it has and should not have goes.

    Args:
        client: of its server.
        bucket: its name.
        configuration: what `read` gave.
        known: what `read` would give for it as it is; None to ask.
    """
    for part in PARTS:
        wanted: Any = configuration.get(part.name)
        present: Any = _ask(client, part, bucket) if known is None else known.get(part.name)
        if part.name == "acl":
            if wanted and not has_default_grants(wanted):
                getattr(client, part.put)(Bucket=bucket, **{part.argument: as_mine(wanted, present)})
        elif wanted and wanted != present:
            getattr(client, part.put)(Bucket=bucket, **{part.argument: wanted})
        elif present and not wanted:
            getattr(client, part.delete)(Bucket=bucket)


def has_default_grants(acl: Mapping[str, Any]) -> bool:
    """Whether nobody but the owner is granted anything."""
    owner = acl.get("Owner", {}).get("ID")
    return all(
        grant["Permission"] == "FULL_CONTROL" and grant["Grantee"].get("ID") == owner for grant in acl.get("Grants", ())
    )


def as_mine(acl: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    """The grants of `acl`, with the owner of `present` in the place of its own: each server has its own accounts."""
    before, after = acl.get("Owner", {}).get("ID"), present["Owner"]
    grants = []
    for grant in acl["Grants"]:
        grantee = dict(grant["Grantee"])
        if before and grantee.get("ID") == before:
            grantee = {"Type": "CanonicalUser", "ID": after["ID"]}
        grants.append({"Grantee": grantee, "Permission": grant["Permission"]})
    return {"Grants": grants, "Owner": after}


def _ask(client: "S3Client", part: Part, bucket: str) -> Any:
    from botocore.exceptions import ClientError

    try:
        return part.chosen(getattr(client, part.get)(Bucket=bucket))
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in part.absent:
            return None
        raise
