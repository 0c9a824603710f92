"""The configuration of a bucket: one table of all properties, how to ask for each, and how to set it.

What a bucket has and the table has not would be lost in silence: a test compares it with all that boto3 can ask for.
"""

import re
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
        absent: the error code that means that there is nothing.
        beside: a keyword argument of `put` that `chosen` gives beside the value, if at all.
        fixed: more keyword arguments of `put`.
        is_many: whether the value is a list of what `put` takes one by one, by their ids.
        names_buckets: whether it names other buckets, which have to be there first.
        refused: the error code with which some servers refuse to set it, while they take all others.
        adapted: from its value and the name of a bucket, what may be set there where the value is refused.
    """

    name: str
    get: str
    put: str
    delete: str
    argument: str
    chosen: Callable[[Mapping[str, Any]], Any]
    absent: str = ""
    beside: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    is_many: bool = False
    names_buckets: bool = False
    refused: str = ""
    adapted: Callable[[Any, str], Any] | None = None


def _only(*names: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda answer: {name: answer[name] for name in names if name in answer}


def _when(name: str, value: str) -> Callable[[Mapping[str, Any]], Any]:
    """All of an answer that says more than a new bucket would."""
    return lambda answer: {name: value} if answer.get(name) == value else None


def _whole(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda answer: answer.get(name)


def _one(
    name: str,
    subject: str,
    argument: str,
    absent: str = "",
    chosen: Callable[[Mapping[str, Any]], Any] | None = None,
    *,
    delete: str | None = None,
    **more: Any,
) -> Part:
    """A property with one value, whose methods are named after `subject`, and its value in answers after `argument`."""
    removing = f"delete_{subject}" if delete is None else delete
    return Part(
        name, f"get_{subject}", f"put_{subject}", removing, argument, chosen or _whole(argument), absent, **more
    )


def _unset(name: str, answer: str, absent: str) -> Part:
    """A property that no method sets from what its `get` gives."""
    return Part(name, f"get_bucket_{name}_configuration", "", "", "", _whole(answer), absent)


def _many(kind: str, *, names_buckets: bool = False) -> Part:
    """A property of which a bucket can have several, each with an id."""
    name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind).removeprefix("_")
    return Part(
        name,
        f"list_bucket_{name}_configurations",
        f"put_bucket_{name}_configuration",
        f"delete_bucket_{name}_configuration",
        f"{kind}Configuration",
        _whole(f"{kind}ConfigurationList"),
        is_many=True,
        names_buckets=names_buckets,
    )


_WEBSITE = ("RedirectAllRequestsTo", "IndexDocument", "ErrorDocument", "RoutingRules")
_NOTIFIED = ("TopicConfigurations", "QueueConfigurations", "LambdaFunctionConfigurations", "EventBridgeConfiguration")
_LEAST_SIZE = "TransitionDefaultMinimumObjectSize"

PARTS = (
    # These two first: they decide what policies and ACLs may say.
    _one("ownership", "bucket_ownership_controls", "OwnershipControls", "OwnershipControlsNotFoundError"),
    _one(
        "public_access_block",
        "public_access_block",
        "PublicAccessBlockConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
    ),
    _one(
        "encryption",
        "bucket_encryption",
        "ServerSideEncryptionConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
    ),
    _one("tags", "bucket_tagging", "Tagging", "NoSuchTagSet", _only("TagSet")),
    _one("cors", "bucket_cors", "CORSConfiguration", "NoSuchCORSConfiguration", _only("CORSRules")),
    _one("website", "bucket_website", "WebsiteConfiguration", "NoSuchWebsiteConfiguration", _only(*_WEBSITE)),
    _one("acl", "bucket_acl", "AccessControlPolicy", chosen=_only("Grants", "Owner"), delete=""),
    _one(
        "policy",
        "bucket_policy",
        "Policy",
        "NoSuchBucketPolicy",
        # SeaweedFS takes none about a bucket of another name, as that of a copy is.
        refused="InvalidPolicyDocument",
        adapted=lambda policy, bucket: re.sub(r"(:s3:::)[^/\"*?]+", rf"\g<1>{bucket}", policy),
    ),
    _one("accelerate", "bucket_accelerate_configuration", "AccelerateConfiguration", chosen=_only("Status"), delete=""),
    _one(
        "request_payment",
        "bucket_request_payment",
        "RequestPaymentConfiguration",
        chosen=_when("Payer", "Requester"),
        delete="",
        # As SeaweedFS refuses it.
        refused="MalformedXML",
    ),
    _one(
        "abac",
        "bucket_abac",
        "AbacStatus",
        chosen=lambda answer: _when("Status", "Enabled")(answer.get("AbacStatus", {})),
        delete="",
    ),
    _many("IntelligentTiering"),
    _many("Metrics"),
    _many("Analytics", names_buckets=True),
    _many("Inventory", names_buckets=True),
    _one(
        "logging",
        "bucket_logging",
        "BucketLoggingStatus",
        chosen=_only("LoggingEnabled"),
        delete="",
        names_buckets=True,
    ),
    _one(
        "replication",
        "bucket_replication",
        "ReplicationConfiguration",
        "ReplicationConfigurationNotFoundError",
        names_buckets=True,
    ),
    _one(
        "notifications",
        "bucket_notification_configuration",
        "NotificationConfiguration",
        chosen=_only(*_NOTIFIED),
        delete="",
        # Where they go to may be on a server that does not run now.
        fixed={"SkipDestinationValidation": True},
    ),
    _unset("metadata_table", "GetBucketMetadataTableConfigurationResult", "MetadataTableConfigurationNotFound"),
    _unset("metadata", "GetBucketMetadataConfigurationResult", "MetadataConfigurationNotFound"),
    # Set after the objects: its default would lock them.
    _one(
        "object_lock",
        "object_lock_configuration",
        "ObjectLockConfiguration",
        "ObjectLockConfigurationNotFoundError",
        lambda answer: _lock_rule(answer.get("ObjectLockConfiguration") or {}),
        delete="",
        # moto takes none once there are objects.
        refused="InvalidBucket",
    ),
    # Last: it may remove objects.
    _one(
        "lifecycle",
        "bucket_lifecycle_configuration",
        "LifecycleConfiguration",
        "NoSuchLifecycleConfiguration",
        _only("Rules", _LEAST_SIZE),
        delete="delete_bucket_lifecycle",
        beside=_LEAST_SIZE,
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


_TAKEN_FOR_ANOTHER = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")
"""How SeaweedFS refuses to set what it does not know: the request looks to it as if a bucket were to be made."""


def _put(client: "S3Client", part: Part, bucket: str, wanted: Any) -> bool:
    """Set a part; False where the server does not take it."""
    from botocore.exceptions import ClientError

    try:
        for arguments in _arguments(part, wanted):
            getattr(client, part.put)(Bucket=bucket, **arguments)
    except ClientError as error:
        if part.adapted and code_of(error) == part.refused and (other := part.adapted(wanted, bucket)) != wanted:
            return _put(client, part, bucket, other)
        # The other bucket may be gone, or on another server.
        is_unknown = is_not_implemented(error) or code_of(error) in _TAKEN_FOR_ANOTHER
        if not (is_unknown or part.names_buckets or code_of(error) == part.refused):
            raise
        return False
    return True


def _arguments(part: Part, wanted: Any) -> Iterator[dict[str, Any]]:
    """Those of each request that sets a part."""
    for each in wanted if part.is_many else (wanted,):
        beside = {part.beside: each[part.beside]} if part.beside and part.beside in each else {}
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
        if code_of(error) == part.absent or (is_not_implemented(error) and not is_missing(error)):
            return None
        raise
    return value
