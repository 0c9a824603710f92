"""Real data of real servers, and settings that do not fit it: refused before any server is started on the data."""

import hashlib
import itertools
import json
import re
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

import projects
from triton_env import Persistent, Settings, TritonEnvironment
from triton_env.core.model import DataRecipe, ServiceRecipe
from triton_env.core.setting_types import SecretStr
from triton_env.errors import VolumeMismatch
from triton_env.persistent.docker.volume_check import check_volumes
from triton_env.persistent.docker.volume_files import READER_LABEL
from triton_env.persistent.docker.volume_stamps import FILE, stamp_volume
from triton_env.persistent.fitting import explain_login_failure
from triton_env.persistent.stamps import Stamp, last_checkout
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.owner import LABEL, Owner
from triton_env.services import SERVICES

# Real servers take their time on a busy machine.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

SHOP = {"postgres_user": "alice", "postgres_password": "the-first-password", "postgres_db": "shop"}
CHECKOUT = "/home/alice/claims"


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=280, check=False)
    if check and done.returncode != 0:
        pytest.fail(f"docker {' '.join(arguments)} exited {done.returncode}: {done.stderr}")
    return done.stdout.strip()


def succeeds(*arguments: str) -> bool:
    return subprocess.run(["docker", *arguments], capture_output=True, timeout=280, check=False).returncode == 0


def newer_postgres() -> str:
    """An image of another major version than the one of the tests."""
    image = Settings().postgres_image
    other = "triton-env/standin-postgres:17" if "standin" in image else "postgres:17-alpine"
    if not succeeds("image", "inspect", other):
        docker("pull", other)
    return other


@dataclass(frozen=True)
class Project:
    """The volumes of one project, and real servers on them."""

    engine: Engine
    name: str

    def recipe(self, service: str, **settings: Any) -> ServiceRecipe:
        return SERVICES[service].recipe(Settings(**settings))

    def volume(self, service: str) -> str:
        return f"{self.name}_{data_of(self.recipe(service)).volume}"

    def check(self, service: str, **settings: Any) -> dict[str, Stamp]:
        return check_volumes(self.engine, self.name, [self.recipe(service, **settings)])

    def stamp(self, container: str, service: str, version: str, **settings: Any) -> None:
        stamp_volume(self.engine, self.name, container, self.recipe(service, **settings), version, CHECKOUT)

    @contextmanager
    def server(self, service: str, *command: str, options: tuple[str, ...] = (), **settings: Any) -> Iterator[str]:
        """The service's container on its volume, as docker-compose.yml has it; ended properly. Its name."""
        recipe = self.recipe(service, **settings)
        data = data_of(recipe)
        name = f"{self.name}-{uuid.uuid4().hex[:6]}"
        environment = [word for pair in recipe.container.environment.items() for word in ("-e", "=".join(pair))]
        mount = ("-v", f"{self.volume(service)}:{data.path}")
        try:
            docker(
                "run", "-d", "--init", "--name", name, *mount, *environment, *options, recipe.container.image, *command
            )
            yield name
            docker("stop", "--time", "60", name)
        finally:
            docker("rm", "--force", "--volumes", name, check=False)

    def postgres(self, *, options: tuple[str, ...] = (), **settings: Any) -> Any:
        return self.server(
            "postgres", options=("--stop-signal", "INT", *options), **({"triton_storage": "disk"} | SHOP | settings)
        )

    def files(self, service: str) -> str:
        """A hash of all of a volume's content, with owners, modes and times."""
        return volume_hash(self.engine, self.volume(service))

    def edit_stamp(self, service: str, **values: Any) -> None:
        """Change the stamp in a volume."""
        path = f"/v/{FILE}"
        name = docker("create", "-v", f"{self.volume(service)}:/v", Settings().redis_image, "true")
        try:
            archive, _ = self.engine.client.api.get_archive(name, path)
            content = json.loads(re.search(rb"\{.*\}", b"".join(archive), re.DOTALL)[0])  # type: ignore[index]
            changed = Path(f"{name}.json")
            changed.write_text(json.dumps(content | values))
            docker("cp", str(changed), f"{name}:{path}")
        finally:
            docker("rm", "--force", "--volumes", name)


def data_of(recipe: ServiceRecipe) -> DataRecipe:
    assert recipe.data is not None
    return recipe.data


def volume_hash(engine: Engine, volume: str) -> str:
    name = docker("create", "-v", f"{volume}:/v", Settings().redis_image, "true")
    try:
        stream, _ = engine.client.api.get_archive(name, "/v")
        total = hashlib.sha256()
        for part in stream:
            total.update(part)
        return total.hexdigest()
    finally:
        docker("rm", "--force", "--volumes", name)


PASSWORD = 'PGPASSWORD="$POSTGRES_PASSWORD"'
PSQL = f"{PASSWORD} psql -h 127.0.0.1 -U alice -d shop -qAt"


def wait_inside(container: str, attempt: str) -> None:
    """Wait until a shell command in the container succeeds. The engine is asked once: each time costs it much."""
    docker("exec", container, "timeout", "240", "sh", "-c", f"until {attempt}; do sleep 0.2; done")


def wait_for_postgres(container: str) -> None:
    wait_inside(container, f"{PSQL} -c 'select 1'")


def sql(container: str, statement: str) -> str:
    return docker("exec", container, "sh", "-c", f'{PSQL} -c "$0"', statement)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


def removed_afterwards(project: Project) -> Iterator[Project]:
    yield project
    left = docker("ps", "--all", "--quiet", "--filter", f"label={READER_LABEL}={project.name}")
    for service in SERVICES:
        docker("volume", "rm", "--force", project.volume(service))
    assert not left, "containers that read the volumes were left behind"


@pytest.fixture
def project(engine: Engine) -> Iterator[Project]:
    yield from removed_afterwards(Project(engine, f"tvolumes-{uuid.uuid4().hex[:8]}"))


@pytest.fixture(scope="module")
def shop(engine: Engine) -> Iterator[Project]:
    """PostgreSQL's data after a proper end, without a stamp: as plain Compose leaves it."""
    project = Project(engine, f"tvolumes-{uuid.uuid4().hex[:8]}")
    with project.postgres() as container:
        wait_for_postgres(container)
        sql(container, "create table kept as select generate_series(1, 1000) as number")
    yield from removed_afterwards(project)


@pytest.fixture
def copied(project: Project, shop: Project) -> Project:
    """A project of its own with a copy of the shop's data."""
    copy_data(shop, project, "/v")
    return project


def copy_data(source: Project, target: Project, folder: str) -> None:
    volumes = ("-v", f"{source.volume('postgres')}:/from:ro", "-v", f"{target.volume('postgres')}:/v")
    script = f"mkdir -p {folder} && cp -a /from/. {folder}/"
    docker("run", "--rm", "--entrypoint", "sh", *volumes, Settings().postgres_image, "-c", script)


@contextmanager
def nothing_happens(project: Project, service: str, *, versions_asked: int = 0) -> Iterator[None]:
    """The volume is the same afterwards, byte for byte, and no container that has it was started."""

    def mark() -> str:
        """Have an event of our own among the engine's."""
        name = f"{project.name}-{uuid.uuid4().hex[:6]}"
        docker("volume", "create", name)
        docker("volume", "rm", name)
        return name

    before, since = project.files(service), int(time.time())
    begin = mark()
    # Heard as they happen: the engine remembers only its last few events, and others have theirs at the same time.
    heard = project.engine.client.events(
        since=since, filters={"type": ["container", "volume"], "event": ["start", "mount", "create"]}, decode=True
    )
    try:
        assert any(event["Actor"]["ID"] == begin for event in heard)
        yield
        end = mark()
        events = list(itertools.takewhile(lambda event: event["Actor"]["ID"] != end, heard))
    finally:
        heard.close()
    assert project.files(service) == before
    started = [
        event
        for event in events
        if (event["Type"], event["Action"]) == ("container", "start")
        and event["Actor"]["Attributes"].get(READER_LABEL) == project.name
    ]
    assert len(started) == versions_asked
    mounted = [
        event["Actor"]["Attributes"]
        for event in events
        if (event["Type"], event["Action"]) == ("volume", "mount") and event["Actor"]["ID"] == project.volume(service)
    ]
    assert all(attributes.get("read/write") == "false" for attributes in mounted), mounted


def refusal(project: Project, service: str, **settings: Any) -> VolumeMismatch:
    with pytest.raises(VolumeMismatch) as caught:
        project.check(service, **settings)
    message = str(caught.value)
    assert len(message.splitlines()) <= 24
    assert project.volume(service) in message
    for secret in ("the-first-password", "another-password"):
        assert secret not in message
    return caught.value


class TestPostgresWithoutStamp:
    def test_settings_that_fit_pass(self, shop: Project) -> None:
        with nothing_happens(shop, "postgres", versions_asked=1):
            assert shop.check("postgres", **SHOP) == {}

    def test_settings_that_only_the_server_can_refuse_pass(self, shop: Project) -> None:
        with nothing_happens(shop, "postgres", versions_asked=1):
            assert shop.check("postgres", postgres_user="bob", postgres_password="another", postgres_db="other") == {}

    def test_another_major_version_is_refused(self, shop: Project) -> None:
        with nothing_happens(shop, "postgres", versions_asked=1):
            error = refusal(shop, "postgres", **SHOP, postgres_image=newer_postgres())
        major = (
            docker("run", "--rm", "--entrypoint", "postgres", Settings().postgres_image, "--version")
            .split()[2]
            .split(".")[0]
        )
        assert f"of version {major}" in error.what
        assert "is 17" in error.what
        assert f"set POSTGRES_IMAGE back to an image of PostgreSQL {major}" in error.hint
        assert [error.hint.index(word) for word in ("backup", "reset", "restore")] == sorted(
            error.hint.index(word) for word in ("backup", "reset", "restore")
        )

    def test_what_a_server_says_after_all_is_reported_in_the_same_words(self, shop: Project) -> None:
        with shop.postgres(options=("--publish", "127.0.0.1::5432")) as container:
            wait_for_postgres(container)
            port = docker("port", container, "5432/tcp").splitlines()[0].rpartition(":")[2]
            for changed, variable in (
                ({"postgres_password": "another-password"}, "POSTGRES_PASSWORD"),
                ({"postgres_user": "bob"}, "POSTGRES_PASSWORD"),  # the server does not tell these apart
                ({"postgres_db": "other"}, "POSTGRES_DB"),
            ):
                settings = SHOP | changed
                with pytest.raises(psycopg.OperationalError) as caught:
                    psycopg.connect(
                        host="127.0.0.1", port=port, user=settings["postgres_user"],
                        password=settings["postgres_password"], dbname=settings["postgres_db"],
                    )  # fmt: skip
                explained = explain_login_failure(shop.recipe("postgres", **settings), caught.value)
                assert explained is not None
                assert explained.what.startswith(f"PostgreSQL refuses {variable}")


def test_postgres_data_in_another_path_is_found_and_the_hint_moves_it(project: Project, shop: Project) -> None:
    image = Settings().postgres_image
    copy_data(shop, project, "/v/18/docker")
    with nothing_happens(project, "postgres", versions_asked=1):
        error = refusal(project, "postgres", **SHOP)
    assert "data is at 18/docker in the volume" in error.what
    command = re.search(r"docker (run .*) -c '(.*?)'", error.hint)
    assert command
    docker(*command[1].split(), "-c", command[2])
    project.check("postgres", **SHOP, postgres_image=image)
    with project.postgres() as container:
        wait_for_postgres(container)
        assert sql(container, "select count(*) from kept") == "1000"


class TestPostgresWithStamp:
    def test_a_stamp_spares_the_look_at_the_data_and_goes_into_base_backups(self, copied: Project) -> None:
        with copied.postgres() as container:
            wait_for_postgres(container)
            copied.stamp(container, "postgres", "15.20", **SHOP)
            path = f"{data_of(copied.recipe('postgres')).path}/{FILE}"
            first = docker("exec", container, "stat", "-c", "%U %a %i", path)
            assert first.startswith("postgres 600 ")
            written = docker("exec", container, "cat", path)
            assert SHOP["postgres_password"] not in written
            docker(
                "exec", container, "sh", "-c", f"{PASSWORD} pg_basebackup -h 127.0.0.1 -U alice -D /tmp/backup -c fast"
            )
            assert docker("exec", container, "cat", f"/tmp/backup/{FILE}") == written
            # Written anew only when something changed.
            copied.stamp(container, "postgres", "15.20", **SHOP)
            assert docker("exec", container, "stat", "-c", "%U %a %i", path) == first
            copied.stamp(container, "postgres", "15.21", **SHOP)
            assert Stamp.from_json(docker("exec", container, "cat", path).encode()).version == "15.21"  # type: ignore[union-attr]
        # The version is asked once, for another image.
        with nothing_happens(copied, "postgres", versions_asked=1):
            stamps = copied.check("postgres", **SHOP)
            other_image = refusal(copied, "postgres", **SHOP, postgres_image=newer_postgres())
        assert stamps["postgres"].facts == {"POSTGRES_USER": "alice", "POSTGRES_DB": "shop"}
        assert last_checkout(stamps.values(), CHECKOUT) == ""
        assert last_checkout(stamps.values(), "/home/alice/other") == CHECKOUT
        assert f"set POSTGRES_IMAGE back to {Settings().postgres_image}" in other_image.hint
        # The data itself still tells when a stamp was cut off.
        copied.edit_stamp("postgres", format="?")
        refusal(copied, "postgres", **SHOP, postgres_image=newer_postgres())
        assert copied.check("postgres", **SHOP) == {}


CLICKHOUSE_ANSWERS = 'wget -qO- "http://$(hostname):8123/ping" | grep -qx "Ok\\."'
REDIS_WRITES = "REDISCLI_AUTH=pw-of-redis redis-cli set kept 1 | grep -qx OK"
LOCALSTACK_ANSWERS = "curl -fsSo /dev/null http://127.0.0.1:4566/_localstack/health"


@pytest.mark.parametrize(
    ("service", "answers", "settings", "newer", "older_is_fine"),
    [
        pytest.param("clickhouse", CLICKHOUSE_ANSWERS, {}, "99.1.1.1", True, marks=pytest.mark.long),
        ("redis", REDIS_WRITES, {"redis_password": "pw-of-redis", "triton_storage": "disk"}, "99.0.1", True),
        pytest.param(
            *("s3", LOCALSTACK_ANSWERS, {"triton_storage": "disk"}, "LocalStack 99.1.0", False), marks=pytest.mark.long
        ),
    ],
    ids=["clickhouse", "redis", "s3"],
)
def test_data_of_a_version_that_the_image_cannot_read_is_refused(
    project: Project,
    service: str,
    answers: str,
    settings: Mapping[str, str],
    newer: str,
    older_is_fine: bool,
) -> None:
    recipe = project.recipe(service, **settings)
    # Redis gets its password in its command, as docker-compose.yml's script does.
    with project.server(service, *(recipe.container.command if service == "redis" else ()), **settings) as container:
        wait_inside(container, answers)
        # Before there is a stamp nothing is known, and nothing refused.
        project.check(service, **settings)
        program, *arguments = data_of(recipe).version_command
        version = docker("exec", container, program, *arguments)
        assert re.search(r"\d+\.\d+", version)
        project.stamp(container, service, version, **settings)
    assert project.check(service, **settings)[service].version == version
    # Another image of the same version.
    project.edit_stamp(service, image_id="sha256:other", image="registry.example/other:1")
    project.check(service, **settings)
    project.edit_stamp(service, version=newer)
    with nothing_happens(project, service, versions_asked=1):
        error = refusal(project, service, **settings)
    assert "99." in error.what
    assert recipe.container.image in error.what
    assert f"set {recipe.container.image_variable} back to registry.example/other:1" in error.hint
    project.edit_stamp(service, version="1.0.0")
    if older_is_fine:
        project.check(service, **settings)
    else:
        refusal(project, service, **settings)


def test_volumes_that_are_not_there_are_not_made_by_looking(shop: Project) -> None:
    docker("volume", "create", shop.volume("redis"))
    check_volumes(shop.engine, shop.name, [shop.recipe(name, **SHOP) for name in SERVICES])
    assert not succeeds("volume", "inspect", shop.volume("clickhouse"))


def test_a_running_server_is_asked_before_it_is_replaced() -> None:
    with projects.project() as settings:
        with TritonEnvironment(settings, services=("postgres",), persistent=Persistent.APPLY) as env:
            env.detach()
        name = f"{settings.triton_project}-postgres-1"
        before = docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", name)
        for changed, what in (
            ({"postgres_password": SecretStr("another-password")}, "refuses POSTGRES_PASSWORD: "),
            (
                {"postgres_db": "other"},
                f"refuses POSTGRES_DB=other: its data was initialised with {settings.postgres_db}.",
            ),
        ):
            with pytest.raises(VolumeMismatch) as caught:
                TritonEnvironment(
                    settings.updated(**changed), services=("postgres",), persistent=Persistent.APPLY
                ).start()
            assert what in caught.value.what
            assert docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", name) == before
        # A password that was changed on the server is the one that counts.
        with (
            TritonEnvironment(settings, services=("postgres",), persistent=True) as env,
            env.postgres.connect() as admin,
        ):
            admin.execute("alter role current_user password 'another-password'")
        changed_there = settings.updated(postgres_password=SecretStr("another-password"))
        with TritonEnvironment(changed_there, services=("postgres",), persistent=Persistent.APPLY) as env:
            assert env.postgres.missing() == ""
        assert docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", name) != before


def test_empty_volumes_pass_and_stay_empty(project: Project) -> None:
    for service in SERVICES:
        docker("volume", "create", project.volume(service))
    before = [project.files(service) for service in SERVICES]
    assert check_volumes(project.engine, project.name, [project.recipe(service) for service in SERVICES]) == {}
    assert [project.files(service) for service in SERVICES] == before


def test_the_reading_container_of_a_killed_process_is_removed(project: Project) -> None:
    docker("volume", "create", project.volume("redis"))
    ended = subprocess.Popen(["true"])
    ended.wait()
    labels = Owner.this_process(project.name).labels() | {READER_LABEL: project.name}
    image = Settings().redis_image

    def left_behind(**changed: str) -> str:
        words = [word for pair in (labels | changed).items() for word in ("--label", "=".join(pair))]
        return docker("create", *words, "-v", f"{project.volume('redis')}:/v:ro", image, "true")

    gone = {f"{LABEL}.owner.pid": str(ended.pid)}
    dead, alive = left_behind(**gone), left_behind()
    elsewhere = left_behind(**gone, **{f"{LABEL}.owner.host": "another-machine"})
    try:
        project.check("redis")
        assert not succeeds("inspect", dead)
        assert succeeds("inspect", alive)
        assert succeeds("inspect", elsewhere)
    finally:
        for container in (dead, alive, elsewhere):
            docker("rm", "--force", "--volumes", container, check=False)
