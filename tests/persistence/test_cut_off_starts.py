"""First starts that were cut off: what is unfinished is recreated or completed, what was used is never touched."""

import subprocess
from collections.abc import Iterator

import pytest

import projects
from triton_env import Settings, TritonEnvironment
from triton_env.core.model import CutOff
from triton_env.persistent.docker.cut_off import Healing
from triton_env.persistent.docker.volume_check import check_volumes
from triton_env.persistent.docker.volume_stamps import FILE
from triton_env.runtimes.docker.engine import Engine
from triton_env.services import SERVICES

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

INITDB = "cp -a /made/. /v; cd /v"
"""What initdb makes; it takes much longer to make it again."""
UNFINISHED = {
    "folders alone": "cd /v && mkdir -p base/1 global pg_wal/archive_status pg_tblspc && chmod -R 700 .",
    "no control file": f"{INITDB}; rm -rf base/[2-9]* base/1/* global/*",
    "a control file that is cut short": f"{INITDB}; rm -rf base/[2-9]* && truncate -s 100 global/pg_control",
    # Amid the statements that initdb has a server without connections run: it prompts for each.
    "statements of initdb": f"{INITDB}; (echo 'create table a()'; "
    "until [ $(grep -o backend /tmp/log | wc -l) -ge 2 ]; do sleep 0.1; done; kill -9 $PPID) "
    "| postgres --single -D /v template1 >/tmp/log; rm -f postmaster.pid",
}
"""Scripts that leave the data as a first start does which is cut off at that point."""
USED = {
    "a base backup": f"{INITDB}; rm global/pg_control; touch backup_label",
    "a user's table": f"{INITDB}; rm global/pg_control; touch base/1/16384",
    "a user's database": f"{INITDB}; rm global/pg_control; mkdir base/20000",
    "a user's file": f"{INITDB}; rm global/pg_control; touch notes.txt",
    "a server ran": f"{INITDB}; rm global/pg_control; touch postmaster.opts; echo 'host all all all md5' >>pg_hba.conf",
    "a stamp that cannot be read": f"{INITDB}; rm global/pg_control; echo x >{FILE}",
}
SHORT = {"no control file", "a user's table"}
"""Those that are looked at also outside of the long lane."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


def prepare(settings: Settings, script: str) -> None:
    """Run a script, as the server's user, on the project's volume for PostgreSQL, which is recreated."""
    volume = f"{settings.triton_project}_postgres_data"
    subprocess.run(["docker", "volume", "rm", "--force", volume], check=True, capture_output=True)
    in_server(settings, volume, "postgres_data", script, "-v", f"{made(settings)}:/made:ro")


def made(settings: Settings) -> str:
    """The volume with what initdb makes."""
    return f"{settings.triton_project}_made"


def in_server(settings: Settings, volume: str, name: str, script: str, *options: str) -> None:
    """Run a script as the server's user on a volume at /v, which is of the project and made where it is missing."""
    project = settings.triton_project
    labels = (f"com.docker.compose.project={project}", f"com.docker.compose.volume={name}")
    words = [word for label in (*labels, f"org.triton-env.project={project}") for word in ("--label", label)]
    subprocess.run(["docker", "volume", "create", *words, volume], check=True, capture_output=True)
    command = 'chown postgres /v && chmod 700 /v && exec gosu postgres sh -c "$0" || exec su-exec postgres sh -c "$0"'
    variables = ("-e", f"POSTGRES_USER={settings.postgres_user}")
    run = ["docker", "run", "--rm", "--entrypoint", "sh", "-v", f"{volume}:/v", *variables, *options]
    subprocess.run([*run, settings.postgres_image, "-c", command, f"{script}; true"], check=True, timeout=300)


def found(engine: Engine, settings: Settings) -> list[CutOff]:
    """What is said of the volume. Nothing is healed."""
    left: list[CutOff] = []
    recipe = SERVICES["postgres"].recipe(settings)
    check_volumes(engine, settings.triton_project, [recipe], lambda recipe, cut_off: left.append(cut_off))
    return left


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with projects.project() as settings:
        password = settings.postgres_password.get_secret_value()
        initdb = 'initdb -U "$POSTGRES_USER" --pwfile=/tmp/password -D /v >/tmp/log'
        in_server(settings, made(settings), "made", f"printf %s '{password}' >/tmp/password; {initdb}")
        yield settings


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(script, id=name, marks=() if name in SHORT else pytest.mark.long)
        for name, script in UNFINISHED.items()
    ],
)
def test_what_initdb_left_is_recognised(engine: Engine, settings: Settings, script: str) -> None:
    prepare(settings, script)
    assert found(engine, settings) == [CutOff()]


@pytest.mark.parametrize(
    "script",
    [pytest.param(script, id=name, marks=() if name in SHORT else pytest.mark.long) for name, script in USED.items()],
)
def test_what_was_used_is_never_taken_for_unfinished(engine: Engine, settings: Settings, script: str) -> None:
    prepare(settings, script)
    assert found(engine, settings) == []


def test_what_a_server_has_begun_to_use(engine: Engine, settings: Settings) -> None:
    # The engine starts a container again by itself, and then a server for clients runs on what was left.
    prepare(settings, f"{INITDB}; touch postmaster.opts")
    (whole,) = found(engine, settings)
    assert set(whole.files) == {"pg_hba.conf"}
    prepare(settings, f"{INITDB}; touch postmaster.opts; rm -r $(ls -d base/* | tail -n 1)")
    assert found(engine, settings) == [CutOff(is_final=True)]
    # An empty volume needs nothing.
    prepare(settings, "true")
    assert found(engine, settings) == []


def test_a_start_heals_what_an_earlier_one_left(
    engine: Engine, settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = settings.updated(triton_progress="plain")
    prepare(settings, UNFINISHED["no control file"])
    with TritonEnvironment(shown, services=("postgres",), persistent=True) as env, env.postgres.connect() as connection:
        assert connection.execute("select current_database()").fetchone() == (settings.postgres_db,)
    assert "the first start of PostgreSQL was cut off" in capfd.readouterr().err
    # After initdb, before the image let clients in and made the database; what was put in by others stays.
    prepare(settings, f"{INITDB}; sed -i 's/^# TYPE/# ours/' /v/pg_hba.conf")
    with TritonEnvironment(shown, services=("postgres",), persistent=True) as env, env.postgres.connect() as connection:
        assert connection.execute("select pg_read_file('pg_hba.conf') like '%# ours%'").fetchone() == (True,)
    assert "is completed" in capfd.readouterr().err
    # One that came to its end is left alone from then on.
    assert found(engine, settings) == []


def test_a_volume_that_others_have_stays(engine: Engine, settings: Settings) -> None:
    prepare(settings, UNFINISHED["no control file"])
    volume = f"{settings.triton_project}_postgres_data"
    create = ["docker", "create", "-v", f"{volume}:/v", settings.redis_image, "true"]
    holder = subprocess.run(create, check=True, capture_output=True, text=True).stdout.strip()
    said: list[str] = []
    try:
        Healing(engine, settings.triton_project, said.append).heal(SERVICES["postgres"].recipe(settings), CutOff())
        assert not said
        assert found(engine, settings) == [CutOff()]
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", holder], check=True, capture_output=True)
