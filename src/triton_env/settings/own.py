"""The settings that are not those of a service: triton-env's own, and the application's."""

from typing import Annotated, Literal

from triton_env.core.forms import RuntimeName
from triton_env.core.setting_types import Name, Number, PortNumber, Seconds, StorageName, Text
from triton_env.core.settings_group import Role, SettingsGroup, setting, with_fields
from triton_env.settings import variables


def _is_address_or_empty(text: str) -> str:
    if text:
        # Most leave it empty.
        from ipaddress import ip_address

        ip_address(text)  # its ValueError says what is wrong
    return text


IpAddress = Annotated[str, _is_address_or_empty]
Quantities = Annotated[
    str,
    Text(
        0, 500, r"([a-z0-9./-]+=[0-9]+(\.[0-9]+)?[A-Za-z]*(,(?=.))?)*", "words NAME=QUANTITY with commas between them"
    ),
]
ObjectNames = Annotated[str, Text(0, 500, r"([a-z0-9.-]+(,(?=.))?)*", "names of objects with commas between them")]
LogLevel = Annotated[str, Text(1), str.upper]
"""Any word, in upper case: which levels there are is for the application to say."""
ProjectName = Annotated[str, Text(2, 40, r"[a-z0-9][a-z0-9_-]*", "lower-case letters, digits, _ and -")]
"""What Compose takes as a project name. Of one letter it would make volume names that are drives on Windows."""


@with_fields
class OwnSettings(SettingsGroup):
    """How triton-env works."""

    triton_runtime: RuntimeName = setting(
        Role.OTHER,
        "[Where services run](runtimes.md). `external`: servers that others run, found by the variables of the"
        " services.",
        default="auto",
    )
    triton_project: ProjectName = setting(
        Role.PERSISTENT,
        "Name of the persistent services in containers, volumes and network. Under another one they run beside those of"
        " another checkout, and each port that has its default here gets another one, always the same.",
        default="triton",
    )
    triton_bind_address: IpAddress = setting(
        Role.OTHER,
        "IP address on which containers publish their ports. Empty: 127.0.0.1 for an engine on this machine or behind"
        " ssh, the engine's own address for one that is reached over TCP.",
        default="",
    )
    triton_ports: Literal["random", "fixed"] = setting(
        Role.OTHER, "Free ports for each session, or those of the settings.", default="random"
    )
    triton_passwords: Literal["random", "fixed"] = setting(
        Role.OTHER,
        "New passwords and keys for each session, or"
        " [those of the settings](../how-to/variables.md#fixed-passwords-or-none), so that a service without one has no"
        " password: only for ports on 127.0.0.1, or with passwords of your own.",
        default="random",
    )
    triton_variables: Annotated[str, variables.checked] = setting(
        Role.HANDLING,
        "[Variables of the application by other names](../how-to/variables.md#under-other-names), as words"
        " NAME=TEMPLATE, such as `CELERY_BROKER_URL={SERVICE.url}`. Empty: those of [tool.triton-env.variables] in"
        " `pyproject.toml`.",
        default="",
    )
    triton_storage: StorageName = setting(
        Role.OTHER,
        "[Where a session's data lives](../how-to/ports-and-storage.md#disk-instead-of-memory). `memory`: tmpfs,"
        " durability off, fastest; a service whose data is large may use disk all the same. `disk`: a volume of its own"
        " per service, with the servers' own durability. Gone at the end either way.",
        default=StorageName("memory"),
    )
    triton_pull: Literal["missing", "never"] = setting(
        Role.HANDLING, "Whether to pull an image that the engine does not have, or to fail.", default="missing"
    )
    triton_pull_timeout: Seconds = setting(Role.HANDLING, "Seconds for pulling one image.", default=600)
    triton_poll_interval: Seconds = setting(
        Role.HANDLING, "Seconds between two tries of a readiness probe.", default=0.03
    )
    triton_progress: Literal["auto", "live", "plain", "off"] = setting(
        Role.HANDLING,
        "How a start shows its progress. `auto`: live on a terminal and in a notebook, plain lines elsewhere.",
        default="auto",
    )
    triton_state_dir: str = setting(
        Role.HANDLING,
        "Folder in which running environments are listed for `env`, and journals of restores are kept. Empty: the"
        " user's runtime folder, and for journals of servers that hold data the user's state folder.",
        default="",
    )
    triton_data_dir: str = setting(
        Role.PERSISTENT,
        "Folder for the data of persistent services [without Docker](../how-to/embedded.md#data-that-stays), in which"
        " each project has one. Empty: the user's data folder, for root `/var/lib/triton-env`.",
        default="",
    )
    triton_session: str = setting(
        Role.HANDLING,
        "The id of the session that commands and programs use here instead of one of their own. `run` sets it for its"
        " command, and `env` prints it.",
        default="",
    )
    triton_linger: Annotated[float, Number(ge=0)] = setting(
        Role.HANDLING,
        "Seconds, 0 included, that an unused [shared environment](../how-to/share-an-environment.md) goes on.",
        default=10,
    )
    triton_namespaces: Literal["session", "everywhere"] = setting(
        Role.HANDLING,
        "Where [namespaces](../how-to/isolation.md) may be made: in sessions alone, or in persistent and external"
        " services too, under names that begin with `triton_`.",
        default="session",
    )
    triton_claim_timeout: Seconds = setting(
        Role.HANDLING,
        "Seconds for which a machine claims [what it has on persistent and external"
        " servers](../how-to/isolation.md#several-machines). Its processes renew the claim four times in this time."
        " What it has not renewed, other machines remove.",
        default=300,
    )
    triton_k8s_context: str = setting(
        Role.CLUSTER,
        "Context of the kubeconfig that leads to [the cluster](../how-to/kubernetes.md). Empty: the current one.",
        default="",
    )
    triton_k8s_namespace: Annotated[
        str, Text(0, 63, r"([a-z0-9]([a-z0-9-]*[a-z0-9])?)?", "lower-case letters, digits and - between them")
    ] = setting(
        Role.CLUSTER,
        "Namespace of the cluster in which services run. Empty: that of the context.",
        default="",
    )
    triton_k8s_ttl: Annotated[int, Number(ge=60)] = setting(
        Role.CLUSTER,
        "Seconds, at least 60, after which the cluster ends the pods of a session that nothing else has ended.",
        default=14_400,
    )
    triton_k8s_security: Literal["baseline", "restricted"] = setting(
        Role.CLUSTER,
        "The [Pod Security Standard](../how-to/kubernetes.md#what-is-made-there) that pods keep to. `baseline`: images"
        " begin as root, as elsewhere. `restricted`: as their server's user, where they can.",
        default="baseline",
    )
    triton_k8s_requests: Quantities = setting(
        Role.CLUSTER,
        "What each pod asks the cluster for, as `cpu=250m,memory=512Mi`.",
        default="",
    )
    triton_k8s_limits: Quantities = setting(
        Role.CLUSTER,
        "What each pod may use at most, in the same form.",
        default="",
    )
    triton_k8s_pull_secrets: ObjectNames = setting(
        Role.CLUSTER,
        "Secrets of the namespace with which the cluster pulls the images: their names, with commas between them.",
        default="",
    )
    triton_k8s_storage: Annotated[str, Text(1, 30, r"[0-9]+(\.[0-9]+)?[A-Za-z]*", "a quantity")] = setting(
        Role.CLUSTER,
        "How much a claim asks for that keeps the data of a service, as `5Gi`.",
        default="5Gi",
    )
    triton_k8s_storage_class: Annotated[str, Text(0, 253, r"[a-z0-9.-]*", "the name of an object")] = setting(
        Role.CLUSTER,
        "StorageClass of these claims. Empty: that of the cluster.",
        default="",
    )
    triton_pool_size: Annotated[int, Number(ge=0, le=64)] = setting(
        Role.HANDLING, "Namespaces that are kept ready for each template, at most 64; 0: none.", default=4
    )


@with_fields
class ApplicationSettings(SettingsGroup):
    """What the application that uses the services reads, documented here so that it has one file."""

    environment: Name = setting(Role.APPLICATION, "Name of the deployment.", default="development")
    log_level: LogLevel = setting(
        Role.APPLICATION, "How much the application logs, in words that it understands.", default="INFO"
    )
    debug_mode: bool = setting(Role.APPLICATION, "The command line shows tracebacks.", default=False)
    api_host: Name = setting(Role.APPLICATION, "Address on which the application listens.", default="127.0.0.1")
    api_port: PortNumber = setting(Role.APPLICATION, "Port on which it listens.", default=8000)
