"""The buckets of a namespace, for applications that know them by the names that they always have.

Done with events of botocore, so that every client method, paginator and resource takes part:
https://boto3.amazonaws.com/v1/documentation/api/latest/guide/events.html
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from triton_env.errors import InvalidSetting

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LONGEST = 63
"""Characters of a bucket's name: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""
_GIVEN = "triton_env_bucket"
"""Under which the context of a request keeps the bucket's real name and the one that was given."""


@dataclass(frozen=True, slots=True)
class BucketNames:
    """Real names of buckets are those that are expected, with a suffix.

    Attributes:
        suffix: "-ns-3f2a91bc"; empty where the names are the same.
    """

    suffix: str = ""

    def real(self, name: str) -> str:
        """The name in the server of a bucket by its expected name, or by its real one.

        Raises:
            InvalidSetting: it would be too long.
        """
        if name.endswith(self.suffix) or not name or name.startswith("arn:"):
            return name
        if len(name) + len(self.suffix) > LONGEST:
            raise InvalidSetting(
                f"The bucket {name} cannot be used in a namespace: with {self.suffix} its name has more than {LONGEST} "
                "characters.",
                where="S3",
                hint=f"use a name of at most {LONGEST - len(self.suffix)} characters",
            )
        return name + self.suffix

    def has(self, real: str) -> bool:
        """Whether a bucket of this name is one of these."""
        return real.endswith(self.suffix)

    def expected(self, real: str) -> str:
        """The name by which the application knows a bucket."""
        return real.removesuffix(self.suffix)

    def attach(self, client: "S3Client") -> None:
        """Have a client take and give expected names; real ones are taken too.

        Answers name a bucket as the call did, and `list_buckets` shows only these, by their expected names.
        """
        if not self.suffix:
            return
        # What it returns takes the place of the parameters, which the stubs do not know.
        client.meta.events.register("provide-client-params.s3", self._to_server)  # type: ignore[arg-type]
        client.meta.events.register("after-call.s3", self._from_server)
        # Its policy has the name as it was given: no event comes in between.
        post = _with_bucket(client.generate_presigned_post, self.real)
        client.generate_presigned_post = post  # type: ignore[method-assign]

    def _to_server(self, params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> dict[str, Any]:
        changed = dict(params)
        if isinstance(given := params.get("Bucket"), str):
            changed["Bucket"] = self.real(given)
            context[_GIVEN] = (changed["Bucket"], given)
        source = params.get("CopySource")
        if isinstance(source, str):
            slash = "/" if source.startswith("/") else ""
            bucket, *rest = source.removeprefix("/").split("/", 1)
            changed["CopySource"] = slash + "/".join([self.real(bucket), *rest])
        elif isinstance(source, Mapping) and isinstance(source.get("Bucket"), str):
            changed["CopySource"] = {**source, "Bucket": self.real(source["Bucket"])}
        return changed

    def _from_server(self, parsed: dict[str, Any], model: Any, context: Mapping[str, Any], **_: Any) -> None:
        if model.name == "ListBuckets":
            parsed["Buckets"] = [
                {**bucket, "Name": self.expected(bucket["Name"])}
                for bucket in parsed.get("Buckets", ())
                if self.has(bucket["Name"])
            ]
            return
        real, given = context.get(_GIVEN, ("", ""))
        if real == given:
            return
        for answer, field in ((parsed, "Name"), (parsed, "Bucket"), (parsed.get("Error", {}), "BucketName")):
            if answer.get(field) == real:
                answer[field] = given
        if isinstance(place := parsed.get("Location"), str):
            # "/bucket", or the URL of the bucket or of an object in it, with its name in the path or in the host.
            path = f"{place}/".replace(f"/{real}/", f"/{given}/", 1).removesuffix("/")
            parsed["Location"] = path.replace(f"//{real}.", f"//{given}.", 1)


def _with_bucket(method: Callable[..., Any], real: Callable[[str], str]) -> Callable[..., Any]:
    @functools.wraps(method)
    def presigned(Bucket: str, *args: Any, **kwargs: Any) -> Any:  # noqa: N803 - as boto3 calls it
        return method(real(Bucket), *args, **kwargs)

    return presigned
