"""`s3`: buckets and objects of the persistent S3, by the AWS command line or without it."""

import shutil
from typing import TYPE_CHECKING

import click

from triton_env.cli.options import passed_on, project_option
from triton_env.cli.persistent import ended_by_signals, infrastructure, not_running

if TYPE_CHECKING:
    from triton_env.services import S3


@click.command(short_help="List and copy objects of the persistent S3.", context_settings=passed_on)
@project_option
@click.argument("args", nargs=-1, required=True, type=click.UNPROCESSED)
def command(project: str | None, args: tuple[str, ...]) -> int:
    """List and copy objects of the persistent S3, with its address and keys set.

    \b
    python -m triton_env s3 ls
    python -m triton_env s3 ls s3://triton-documents/reports/
    python -m triton_env s3 cp report.pdf s3://triton-documents/
    python -m triton_env s3 cat s3://triton-documents/report.pdf > copy.pdf

    This is `aws s3` where the program aws is installed; all that it knows can be used. Elsewhere there are ls, cp, rm,
    mb and cat; - stands for standard input or output. --project comes before ARGS.

    Exit status: that of aws; 1 if S3 does not run, or if it refuses; 2 for wrong use.
    """
    from triton_env.cli.objects import check_source, run

    aws = shutil.which("aws")
    if aws is None:
        check_source(args)
    with infrastructure(project) as services:
        service = services.running().get("s3")
        if service is None:
            raise not_running(["s3"], services, project)
    from triton_env.services import S3

    assert isinstance(service, S3)
    if aws is not None:
        _become_aws(aws, service, args)
    with ended_by_signals("What was copied stays."):
        return run(service, args)


def _become_aws(aws: str, service: "S3", args: tuple[str, ...]) -> None:
    from triton_env.cli.shells import become
    from triton_env.model import Program
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
