"""`s3`: buckets and objects, by the AWS command line or without it."""

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from triton_env.cli.choice import Choice, session_of
from triton_env.cli.options import environment_options, passed_on
from triton_env.cli.persistent import ended_by_signals, infrastructure, not_running
from triton_env.cli.session import attached

if TYPE_CHECKING:
    from triton_env.services import S3


@click.command(context_settings=passed_on)
@environment_options
@click.argument("args", nargs=-1, required=True, type=click.UNPROCESSED)
def command(choice: Choice, args: tuple[str, ...]) -> int:
    """List and copy objects of the S3 that runs here, with its address and keys set.

    \b
    python -m triton_env s3 ls
    python -m triton_env s3 ls s3://triton-documents/reports/
    python -m triton_env s3 cp report.pdf s3://triton-documents/
    python -m triton_env s3 cat s3://triton-documents/report.pdf > copy.pdf

    This is `aws s3` where the program aws is installed; all that it knows can be used. Elsewhere there are ls, cp, rm,
    mb and cat; - stands for standard input or output. Options of this command come before ARGS.

    Exit status: that of aws; 1 if S3 does not run, or if it refuses; 2 for wrong use.
    """
    from triton_env.cli.objects import check_source

    if shutil.which("aws") is None:
        check_source(args)
    from triton_env.services import S3

    if record := session_of(choice):
        with attached(record, ("s3",)) as environment:
            return _run(environment.s3, args, environment.hand_over)
    with infrastructure(choice) as services:
        service = services.running().get("s3")
        if service is None:
            raise not_running(["s3"], services, choice)
    assert isinstance(service, S3)
    return _run(service, args, lambda: None)


def _run(service: "S3", args: tuple[str, ...], before_exec: Callable[[], None]) -> int:
    from triton_env.cli.objects import run

    aws = shutil.which("aws")
    if aws is not None:
        before_exec()
        _become_aws(aws, service, args)
    with ended_by_signals("What was copied stays."):
        return run(service, args)


def _become_aws(aws: str, service: "S3", args: tuple[str, ...]) -> None:
    from triton_env.cli.shells import become
    from triton_env.core.model import Program
    from triton_env.settings import process_environment

    # All that is configured there is for other servers: profiles, endpoints, roles, addresses by host name, proxies.
    inherited = {name: value for name, value in process_environment().items() if not name.startswith("AWS_")}
    hosts = ",".join(filter(None, (inherited.get("NO_PROXY") or inherited.get("no_proxy"), service.host)))
    environment = inherited | {
        "AWS_ENDPOINT_URL": service.endpoint_url,
        "AWS_ACCESS_KEY_ID": service.access_key,
        "AWS_SECRET_ACCESS_KEY": service.secret_key,
        "AWS_DEFAULT_REGION": service.region,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "NO_PROXY": hosts,
        "no_proxy": hosts,
    }
    # It has no cat of its own.
    words = ("cp", *args[1:], "-") if args[0] == "cat" else args
    # As an option too: the variable is read by versions since July 2023.
    become(Program((aws, "--endpoint-url", service.endpoint_url, "s3", *words), environment))
