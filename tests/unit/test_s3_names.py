"""Which buckets are the user's."""

from triton_env.services.s3.names import claims_bucket, users_buckets


def test_those_in_which_claims_are_noted_are_not_also_those_of_other_projects() -> None:
    users = ["app", "triton-claims-mine", "other"]
    assert users_buckets("app", [*users, claims_bucket("app"), claims_bucket("other")]) == users
