"""What a signed form may upload, by its policy.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from .signature import RefusedError

_WITHOUT_CONDITION: Final = frozenset({"awsaccesskeyid", "bucket", "file", "policy", "signature", "x-amz-signature"})
"""Fields that no policy has to name."""


def check_policy(fields: Mapping[str, str], size: int) -> None:
    """Check a form whose signature is right.

    Args:
        fields: by lower-case name, and the bucket under `bucket`.
        size: bytes of the file.

    Raises:
        RefusedError: the policy has expired, or does not allow this form.
    """
    try:
        policy = json.loads(base64.b64decode(fields.get("policy", "")))
        expiration = datetime.fromisoformat(policy["expiration"]).astimezone(UTC)
        conditions = [_Condition(each) for each in policy["conditions"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RefusedError("InvalidPolicyDocument", "Invalid Policy: it cannot be read.", 400) from None
    if expiration < datetime.now(UTC):
        raise RefusedError("AccessDenied", "Invalid according to Policy: Policy expired.")
    for condition in conditions:
        condition.check(fields, size)
    named = {condition.name for condition in conditions} | _WITHOUT_CONDITION
    if extra := sorted(name for name in fields if name not in named and not name.startswith("x-ignore-")):
        raise RefusedError("AccessDenied", f"Invalid according to Policy: Extra input fields: {', '.join(extra)}")


class _Condition:
    """One condition of a policy: `{name: value}`, `[how, "$name", value]` or `["content-length-range", 1, 10]`."""

    def __init__(self, given: Any) -> None:
        self._given = given
        if isinstance(given, dict):
            ((name, self._value),) = given.items()
            self._how = "eq"
        else:
            self._how, name, self._value = given
            self._how = self._how.lower()
        if self._how == "content-length-range":
            self.name, self._least, self._most = "", int(name), int(self._value)
        else:
            self.name = name.lower().removeprefix("$")

    def check(self, fields: Mapping[str, str], size: int) -> None:
        if self._how == "content-length-range":
            if size < self._least:
                raise RefusedError(
                    "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size", 400
                )
            if size > self._most:
                raise RefusedError("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size", 400)
            return
        found = fields.get(self.name, "")
        if not (found == str(self._value) or (self._how == "starts-with" and found.startswith(self._value))):
            text = json.dumps(self._given)
            raise RefusedError("AccessDenied", f"Invalid according to Policy: Policy Condition failed: {text}")
