"""`s3`: buckets and objects, by the AWS command line or without it."""

import shlex
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

from triton_env.services.base_shell import Arguments, OwnShell

if TYPE_CHECKING:
    from triton_env.core.model import Program
    from triton_env.services import S3


class S3Commands(OwnShell):
    """The commands of `aws s3`."""

    command = "s3"
    summary = "List and copy objects of S3."
    description = """\
    List and copy objects of the S3 that runs here, with its address and keys set.

    \b
    python -m triton_env s3 ls
    python -m triton_env s3 ls s3://triton-documents/reports/
    python -m triton_env s3 cp report.pdf s3://triton-documents/
    python -m triton_env s3 cat s3://triton-documents/report.pdf > copy.pdf

    This is `aws s3` where the program aws is installed; all that it knows can be used. Elsewhere there are ls, cp, rm,
    mb and cat; - stands for standard input or output. Options of this command come before ARGS.

    Exit status: that of aws; 1 if S3 does not run, or if it refuses; 2 for wrong use.
    """
    interrupted = "What was copied stays."

    def check(self, given: Arguments) -> None:
        if shutil.which("aws") is None:
            from triton_env.services.s3.commands import check_source

            check_source(given)

    def replacement(self, service: "S3", given: Arguments) -> "Program | None":
        aws = shutil.which("aws")
        return _aws(aws, service, given) if aws else None

    def run(self, service: "S3", given: Arguments, show: Callable[[str], None]) -> int:
        from triton_env.services.s3.commands import run

        return run(service, given, show)

    def way_in(self, service: "S3") -> str:
        before = " ".join(f"{name}={shlex.quote(value)}" for name, value in _keys(service).items())
        return f"{before} aws --endpoint-url {service.endpoint_url} s3 ls s3://{service.bucket}"


SHELL = S3Commands()


def _keys(service: "S3") -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": service.access_key,
        "AWS_SECRET_ACCESS_KEY": service.secret_key,
        "AWS_DEFAULT_REGION": service.region,
    }


def _aws(aws: str, service: "S3", given: Arguments) -> "Program":
    from triton_env.core.model import Program
    from triton_env.settings.process import process_environment

    # All that is configured there is for other servers: profiles, endpoints, roles, addresses by host name, proxies.
    inherited = {name: value for name, value in process_environment().items() if not name.startswith("AWS_")}
    hosts = ",".join(filter(None, (inherited.get("NO_PROXY") or inherited.get("no_proxy"), service.host)))
    environment = inherited | _keys(service)
    environment |= {
        "AWS_ENDPOINT_URL": service.endpoint_url,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "NO_PROXY": hosts,
        "no_proxy": hosts,
    }
    # It has no cat of its own.
    words = ("cp", *given[1:], "-") if given[0] == "cat" else given
    # As an option too: the variable is read by versions since July 2023.
    return Program((aws, "--endpoint-url", service.endpoint_url, "s3", *words), environment)
