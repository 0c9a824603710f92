"""`manifests`: what runs the services in a cluster, as YAML."""

import click

from triton_env.cli import completion
from triton_env.cli.choice import Choice, settings_for
from triton_env.cli.options import named_services, selected
from triton_env.errors import UsageError


@click.command()
@click.option("--persistent", is_flag=True, help="StatefulSets, whose data stays in PersistentVolumeClaims.")
@click.option("--podman", is_flag=True, help="For `podman kube play`, with the ports of the settings on 127.0.0.1.")
@click.option(
    "--project",
    metavar="NAME",
    shell_complete=completion.projects,
    help="The project that they are named by.  [default: TRITON_PROJECT]",
)
@named_services
def command(services: tuple[str, ...], project: str | None, persistent: bool, podman: bool) -> None:
    """Print what runs the services in a cluster, as YAML for other programs.

    \b
    python -m triton_env manifests | kubectl apply -f -
    python -m triton_env manifests --persistent $service $other | kubectl apply -f -
    python -m triton_env manifests --podman | podman kube play -

    Each service is a Secret, a Service and a Pod, whose data goes with it; with --persistent it has a StatefulSet in
    the place of the Pod. All are named triton-PROJECT-SERVICE. No cluster is asked, and nothing is removed by
    triton-env: delete what you have applied.

    Names and passwords are those of the settings, and are in the output. Every pod of the cluster can connect, so
    passwords that are empty or the default are refused. Podman's are reached from this machine alone.

    It needs the extra `kubernetes`: pip install "triton-env[kubernetes]".

    Exit status: 0; 1 if the extra is not installed; 2 for wrong use, such as a default password.
    """
    from triton_env.core.model import Storage
    from triton_env.persistent.settings import persistent_settings
    from triton_env.runtimes.kubernetes.documents import as_yaml
    from triton_env.runtimes.kubernetes.project import Shape, check_passwords, project_objects
    from triton_env.runtimes.start_tracker import check_usable
    from triton_env.services import SERVICES
    from triton_env.services.selection import with_groups

    if persistent and podman:
        raise UsageError("Podman knows no StatefulSets: --podman is for services whose data goes with them.")
    names = selected(services)
    settings = with_groups(persistent_settings(settings_for(Choice(project=project))), names)
    if persistent:
        settings = settings.updated(triton_storage=Storage.DISK)
    shape = Shape.STATEFUL_SETS if persistent else Shape.PODMAN if podman else Shape.PODS
    recipes = [SERVICES[name].recipe(settings) for name in names]
    check_usable(recipes)
    if not podman:
        check_passwords(recipes)
    text = as_yaml(each for recipe in recipes for each in project_objects(recipe, settings, shape))
    click.echo(text, nl=False)
