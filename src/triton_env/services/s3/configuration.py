"""The configuration of a bucket: one table of all properties, how to ask for each, and how to set it.

What a bucket has and the table has not would be lost in silence: a test compares it with all that boto3 can ask for.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from triton_env.services.s3.answers import code_of, is_missing, is_not_implemented
from triton_env.services.s3.notes import PROPERTIES, UPLOADS, Notes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a bucket's configuration.

    Attributes:
        name: its name in the archive.
        get: the client's method that reads it.
        put: the method that sets it; empty where there is none that takes what `get` gives.
        delete: the method that takes it away; empty where there is none.
        argument: the keyword argument of `put`.
        chosen: from the answer of `get`, the value of that argument; empty for nothing.
        absent: the error codes that mean that there is nothing.
        beside: keyword arguments of `put` that `chosen` gives beside the value, if at all.
        fixed: more keyword arguments of `put`.
        is_many: whether the value is a list of what `put` takes one by one, by their ids.
        names_buckets: whether it names other buckets, which have to be there first.
        refused: the error codes with which some servers refuse to set it, while they take all others.
    """

    name: str
    get: str
    put: str
    delete: str
    argument: str
    chosen: Callable[[Mapping[str, Any]], Any]
    absent: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    is_many: bool = False
    names_buckets: bool = False
    refused: tuple[str, ...] = ()


def _only(*names: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda answer: {name: answer[name] for name in names if name in answer}


def _when(name: str, value: str) -> Callable[[Mapping[str, Any]], Any]:
    """All of an answer that says more than a new bucket would."""
    return lambda answer: {name: value} if answer.get(name) == value else None


def _many(kind: str, *, names_buckets: bool = False) -> Part:
    """A property of which a bucket can have several, each with an id."""
    name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind).removeprefix("_")
    return Part(
        name,
        f"list_bucket_{name}_configurations",
        f"put_bucket_{name}_configuration",
        f"delete_bucket_{name}_configuration",
        f"{kind}Configuration",
        lambda answer: answer.get(f"{kind}ConfigurationList"),
        is_many=True,
        names_buckets=names_buckets,
    )


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
    Part(
        "accelerate",
        "get_bucket_accelerate_configuration",
        "put_bucket_accelerate_configuration",
        "",
        "AccelerateConfiguration",
        _only("Status"),
    ),
    Part(
        "request_payment",
        "get_bucket_request_payment",
        "put_bucket_request_payment",
        "",
        "RequestPaymentConfiguration",
        _when("Payer", "Requester"),
    ),
    Part(
        "abac",
        "get_bucket_abac",
        "put_bucket_abac",
        "",
        "AbacStatus",
        lambda answer: _when("Status", "Enabled")(answer.get("AbacStatus", {})),
    ),
    _many("IntelligentTiering"),
    _many("Metrics"),
    _many("Analytics", names_buckets=True),
    _many("Inventory", names_buckets=True),
    Part(
        "logging",
        "get_bucket_logging",
        "put_bucket_logging",
        "",
        "BucketLoggingStatus",
        _only("LoggingEnabled"),
        names_buckets=True,
    ),
    Part(
        "replication",
        "get_bucket_replication",
        "put_bucket_replication",
        "delete_bucket_replication",
        "ReplicationConfiguration",
        lambda answer: answer.get("ReplicationConfiguration"),
        ("ReplicationConfigurationNotFoundError",),
        names_buckets=True,
    ),
    Part(
        "notifications",
        "get_bucket_notification_configuration",
        "put_bucket_notification_configuration",
        "",
        "NotificationConfiguration",
        _only(
            *("TopicConfigurations", "QueueConfigurations", "LambdaFunctionConfigurations"),
            "EventBridgeConfiguration",
        ),
        # Where they go to may be on a server that does not run now.
        fixed={"SkipDestinationValidation": True},
    ),
    Part(
        "metadata_table",
        "get_bucket_metadata_table_configuration",
        "",
        "",
        "",
        lambda answer: answer.get("GetBucketMetadataTableConfigurationResult"),
        ("MetadataTableConfigurationNotFound",),
    ),
    Part(
        "metadata",
        "get_bucket_metadata_configuration",
        "",
        "",
        "",
        lambda answer: answer.get("GetBucketMetadataConfigurationResult"),
        ("MetadataConfigurationNotFound",),
    ),
    # Set after the objects: its default would lock them.
    Part(
        "object_lock",
        "get_object_lock_configuration",
        "put_object_lock_configuration",
        "",
        "ObjectLockConfiguration",
        lambda answer: _lock_rule(answer.get("ObjectLockConfiguration") or {}),
        ("ObjectLockConfigurationNotFoundError",),
        # moto takes none once there are objects.
        refused=("InvalidBucket",),
    ),
    # Last: it may remove objects.
    Part(
        "lifecycle",
        "get_bucket_lifecycle_configuration",
        "put_bucket_lifecycle_configuration",
        "delete_bucket_lifecycle",
        "LifecycleConfiguration",
        _only("Rules", "TransitionDefaultMinimumObjectSize"),
        ("NoSuchLifecycleConfiguration",),
        beside=("TransitionDefaultMinimumObjectSize",),
    ),
)
READ_OTHERWISE = frozenset({"get_bucket_location", "get_bucket_versioning", "get_bucket_policy_status"})
"""What can be asked for and is not a part: the first two are read by themselves, the last follows from the policy."""


def read(client: "S3Client", bucket: str, notes: Notes | None = None) -> dict[str, Any]:
    """The configuration of a bucket, as data that JSON can hold, with its region and versioning.

    Args:
        notes: takes what the bucket has and a restore cannot set.
    """
    # None for the oldest region, whatever the type says.
    region: str | None = client.get_bucket_location(Bucket=bucket).get("LocationConstraint")
    found: dict[str, Any] = {
        "region": region or "us-east-1",
        "versioning": client.get_bucket_versioning(Bucket=bucket).get("Status", ""),
    }
    for part in PARTS:
        if value := _ask(client, part, bucket):
            if part.put:
                found[part.name] = value
            elif notes:
                notes.add(PROPERTIES, f"{part.name} of {bucket}")
    if notes:
        uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())
        for upload in uploads:
            notes.add(UPLOADS, f"{bucket}/{upload['Key']}")
    return found


def apply(
    client: "S3Client",
    bucket: str,
    configuration: Mapping[str, Any],
    known: Mapping[str, Any] | None = None,
    *,
    names_buckets: bool | None = None,
) -> list[str]:
    """Give a bucket this configuration, all but its versioning. What it has and should not have goes.

    Args:
        configuration: what `read` gave.
        known: what `read` would give for it as it is; None to ask.
        names_buckets: only the parts that name other buckets (True), or only those that do not (False).

    Returns:
        The names of the parts that this server does not take.
    """
    unknown: list[str] = []
    for part in PARTS:
        if not part.put or names_buckets not in (None, part.names_buckets):
            continue
        wanted: Any = configuration.get(part.name)
        present: Any = _ask(client, part, bucket) if known is None else known.get(part.name)
        if part.name == "acl":
            if wanted and not has_default_grants(wanted):
                policy: Any = as_mine(wanted, present)
                client.put_bucket_acl(Bucket=bucket, AccessControlPolicy=policy)
        elif wanted and wanted != present:
            if not _put(client, part, bucket, wanted):
                unknown.append(part.name)
        elif present and not wanted and part.delete:
            for each in present if part.is_many else ({},):
                getattr(client, part.delete)(Bucket=bucket, **({"Id": each["Id"]} if part.is_many else {}))
    return unknown


def missing(client: "S3Client", bucket: str, configuration: Mapping[str, Any]) -> list[str]:
    """The parts of a configuration that a bucket does not have, though it was given them: moto ignores some."""
    return [part.name for part in PARTS if part.put and configuration.get(part.name) and not _ask(client, part, bucket)]


def _put(client: "S3Client", part: Part, bucket: str, wanted: Any) -> bool:
    """Set a part; False where the server does not take it."""
    from botocore.exceptions import ClientError

    try:
        for arguments in _arguments(part, wanted):
            getattr(client, part.put)(Bucket=bucket, **arguments)
    except ClientError as error:
        # The other bucket may be gone, or on another server.
        if not (is_not_implemented(error) or part.names_buckets or code_of(error) in part.refused):
            raise
        return False
    return True


def _arguments(part: Part, wanted: Any) -> Iterator[dict[str, Any]]:
    """Those of each request that sets a part."""
    for each in wanted if part.is_many else (wanted,):
        beside = {name: each[name] for name in part.beside if name in each}
        value = {name: each[name] for name in each if name not in beside} if beside else each
        id_ = {"Id": each["Id"]} if part.is_many else {}
        yield {part.argument: value, **id_, **beside, **part.fixed}


def malformed(client: "S3Client", configuration: Mapping[str, Any]) -> str:
    """The first part of a configuration that no request can set, since it is of another form; empty for none."""
    from botocore.validate import ParamValidator

    for part in PARTS:
        if wanted := configuration.get(part.name) if part.put else None:
            operation = client.meta.method_to_api_mapping[part.put]
            form: Any = client.meta.service_model.operation_model(operation).input_shape
            try:
                found = [ParamValidator().validate({"Bucket": "b", **each}, form) for each in _arguments(part, wanted)]
            except (KeyError, TypeError):
                return part.name
            if any(problems.has_errors() for problems in found):
                return part.name
    return ""


def has_lock_at_once(configuration: Mapping[str, Any]) -> bool:
    """Whether a bucket is to be made with object lock, and so with versions, from its first moment.

    Elsewhere what came before versioning has to be put first.
    """
    return "object_lock" in configuration and not configuration.get("has_nulls")


def renamed(configuration: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A configuration in which the parts that name other buckets have other names for them.

    Args:
        configuration: what `read` gave.
        names: the new names by the old ones; all others stay.
    """
    connected = {part.name for part in PARTS if part.names_buckets}
    return {name: _renamed(value, names) if name in connected else value for name, value in configuration.items()}


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    if not isinstance(value, Mapping):
        return value
    found = {name: _renamed(each, names) for name, each in value.items()}
    for name in ("Bucket", "TargetBucket"):
        if isinstance(place := found.get(name), str):
            # A name, or "arn:aws:s3:::NAME".
            start, colons, bucket = place.rpartition(":::")
            found[name] = f"{start}{colons}{names.get(bucket, bucket)}"
    return found


def has_default_grants(acl: Mapping[str, Any]) -> bool:
    """Whether only the owner is granted anything."""
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


def _lock_rule(lock: Mapping[str, Any]) -> dict[str, Any]:
    """A lock configuration, without the unit of its default that is 0, which moto gives and no server takes."""
    default = {name: value for name, value in lock.get("Rule", {}).get("DefaultRetention", {}).items() if value}
    return {**lock, "Rule": {"DefaultRetention": default}} if default else dict(lock)


def _ask(client: "S3Client", part: Part, bucket: str) -> Any:
    from botocore.exceptions import ClientError

    if not hasattr(client, part.get):  # an older boto3
        return None
    try:
        answer = getattr(client, part.get)(Bucket=bucket)
        value = part.chosen(answer)
        while part.is_many and answer.get("NextContinuationToken"):
            answer = getattr(client, part.get)(Bucket=bucket, ContinuationToken=answer["NextContinuationToken"])
            value = [*value, *part.chosen(answer)]
    except ClientError as error:
        if code_of(error) in part.absent or (is_not_implemented(error) and not is_missing(error)):
            return None
        raise
    return value
