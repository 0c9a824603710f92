"""What goes wrong with a Docker engine, in our words. The engine here is a small one of our own."""

import gc
import itertools
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from patience import WAIT
from triton_env import Settings
from triton_env.errors import (
    EngineFailed,
    EnginePermissionDenied,
    EngineTooOld,
    EngineUnreachable,
    ImageUnavailable,
    PortTaken,
    StartCancelled,
    TritonError,
)
from triton_env.runtimes.docker import engine as engine_module
from triton_env.runtimes.docker import engine_errors
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.docker.pulling import ensure_image
from unit.fake_engine import BreakOff, FakeEngine, Message, Refusal, serving

IMAGE = "postgres:14-alpine"


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Unix sockets have names of 107 characters at most, which the test folders may exceed."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


# A pull that is given up leaves its thread, and the thread its connection, which the garbage collector closes.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def abandoned_connections() -> Iterator[None]:
    """Has the garbage collector close them before the tests of another module begin."""
    yield
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
        gc.collect()


@pytest.fixture
def fake(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    for name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_AUTH_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    with serving(short_folder) as fake:
        monkeypatch.setenv("DOCKER_HOST", fake.url)
        yield fake


@pytest.fixture
def engine(fake: FakeEngine) -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


def ensure(
    engine: Engine,
    settings: Settings | None = None,
    on_progress: Callable[[str], None] = lambda words: None,
    cancelled: threading.Event | None = None,
) -> tuple[str, ...]:
    return ensure_image(
        engine, IMAGE, "POSTGRES_IMAGE", settings or Settings(), on_progress, cancelled or threading.Event()
    )


def downloading(layer: str, current: int, total: int = 40_000_000) -> Message:
    return {"status": "Downloading", "id": layer, "progressDetail": {"current": current, "total": total}}


def assert_in_our_words(error: TritonError) -> None:
    """No wrapping of requests, urllib3 and docker in the message, but all of it behind the error."""
    message = str(error)
    for foreign in ("HTTPConnectionPool", "Max retries", "Traceback", "Client Error", "http+docker", "b'{"):
        assert foreign not in message
    assert "hint: " in message
    assert len(message.splitlines()) <= 24


# --- Reaching it ----------------------------------------------------------------------------------------------------


def test_an_engine_that_answers(engine: Engine, fake: FakeEngine) -> None:
    assert (engine.info.version, engine.info.api, engine.info.url) == ("20.10.24", "1.41", fake.url)


@pytest.fixture
def sdk_sockets() -> Iterator[None]:
    """The SDK leaves the sockets of failed connections to the garbage collector: have it come now."""
    yield
    gc.collect()


unclosed_by_the_sdk = pytest.mark.filterwarnings("ignore:unclosed <socket.socket .*family=1:ResourceWarning")


@unclosed_by_the_sdk
@pytest.mark.usefixtures("sdk_sockets")
def test_no_socket(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{short_folder}/none.sock")
    with pytest.raises(EngineUnreachable, match="No Docker engine answers") as caught:
        Engine()
    assert caught.value.where == f"unix://{short_folder}/none.sock"
    assert "No such file or directory" in caught.value.cause
    assert "systemctl start docker" in caught.value.hint
    assert_in_our_words(caught.value)


@unclosed_by_the_sdk
@pytest.mark.usefixtures("sdk_sockets")
def test_a_socket_that_nobody_serves(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (short_folder / "gone").mkdir()
    with serving(short_folder / "gone") as gone:
        pass
    monkeypatch.setenv("DOCKER_HOST", gone.url)
    with pytest.raises(EngineUnreachable, match="Connection refused") as caught:
        Engine()
    assert_in_our_words(caught.value)


def test_a_host_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(EngineUnreachable, match="Connection refused") as caught:
        Engine()
    assert_in_our_words(caught.value)


@pytest.mark.parametrize("url", ["nonsense://x", "tcp://127.0.0.1:notaport"])
def test_a_url_that_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", url)
    with pytest.raises(EngineUnreachable) as caught:
        Engine()
    assert caught.value.where == url


AS_NOBODY = """
import os, sys
from triton_env.errors import EnginePermissionDenied
from triton_env.runtimes.docker.engine import Engine

if os.geteuid() == 0:  # whom no permission stops
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    Engine()
except EnginePermissionDenied as error:
    print(error)
"""


def test_permission_denied(fake: FakeEngine, short_folder: Path) -> None:
    short_folder.chmod(0o755)
    short_folder.joinpath("docker.sock").chmod(0)
    done = subprocess.run([sys.executable, "-c", AS_NOBODY], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:3] == [
        "The Docker engine runs, but this user may not use it.",
        f"  where: {fake.url}",
        "  cause: [Errno 13] Permission denied",
    ]
    assert "sudo usermod -aG docker $USER" in done.stdout
    assert issubclass(EnginePermissionDenied, TritonError)


@pytest.mark.parametrize("api", ["1.40", "1.24"])
def test_an_old_engine(fake: FakeEngine, api: str) -> None:
    fake.api = api
    with pytest.raises(EngineTooOld, match=r"20\.10\.24 is too old") as caught:
        Engine()
    assert api in caught.value.cause
    assert "upgrade the engine" in caught.value.hint


@pytest.mark.parametrize("api", ["1.41", "1.54", "2.0"])
def test_engines_that_are_new_enough(fake: FakeEngine, api: str) -> None:
    fake.api = api
    Engine().close()


def test_an_engine_that_breaks_off_when_asked_who_it_is(fake: FakeEngine) -> None:
    fake.broken = True
    with pytest.raises(EngineUnreachable) as caught:
        Engine()
    assert_in_our_words(caught.value)


def test_an_engine_that_breaks_off_later(engine: Engine, fake: FakeEngine) -> None:
    fake.broken = True
    with pytest.raises(EngineUnreachable, match="stopped answering while it was asked to look up the image") as caught:
        ensure(engine)
    assert "hint: docker info" in str(caught.value)
    assert_in_our_words(caught.value)


def test_what_the_engine_refuses_is_reported_in_its_words(engine: Engine) -> None:
    with pytest.raises(EngineFailed, match="failed to read a page") as caught, engine.translated("read a page", "here"):
        engine.client.api.inspect_network("x")
    assert (caught.value.where, caught.value.cause) == ("here", "page not found")
    assert_in_our_words(caught.value)


@pytest.mark.parametrize(
    ("cause", "hint"),
    [
        ("could not find an available, non-overlapping IPv4 address pool", "docker network ls"),
        ("write /var/lib/docker: no space left on device", "docker system df"),
    ],
)
def test_hints_for_engines_that_are_full(engine: Engine, cause: str, hint: str) -> None:
    with pytest.raises(EngineFailed) as caught, engine.translated("create a network"):
        raise OSError(cause)
    assert hint in caught.value.hint


ASKING: dict[str, Callable[[Engine], object]] = {
    "by the SDK": lambda engine: engine.client.api.containers(),
    "at the socket": lambda engine: engine.ask("/containers/json"),
}


@pytest.mark.parametrize("asking", ASKING)
@pytest.mark.parametrize("doing", ["", "list containers"])
def test_no_exception_of_others_comes_out_of_a_broken_engine(
    engine: Engine, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch, doing: str, asking: str
) -> None:
    """Whether it is said what is asked for or not."""
    _ = engine.client
    expected = doing or "answer GET /"

    def refuse(method: str, path: str, query: str) -> Any:
        raise Refusal(500, "no more")

    def ask() -> None:
        if doing:
            with engine.translated(doing, "here"):
                ASKING[asking](engine)
        ASKING[asking](engine)

    monkeypatch.setattr(fake, "answer", refuse)
    with pytest.raises(EngineFailed) as caught:
        ask()
    assert expected in caught.value.what
    assert (caught.value.where, caught.value.cause) == ("here" if doing else fake.url, "no more")
    fake.broken = True
    monkeypatch.undo()
    monkeypatch.setenv("DOCKER_HOST", fake.url)
    with pytest.raises(EngineUnreachable) as silent:
        ask()
    assert expected in silent.value.what
    assert silent.value.where == ("here" if doing else fake.url)


def test_what_others_answer_in_the_engines_place_is_an_error_of_ours(
    engine: Engine, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ = engine.client
    # What is streamed here is no JSON as a whole.
    monkeypatch.setattr(fake, "answer", lambda method, path, query: iter([{"a": 1}, {"b": 2}]))
    with pytest.raises(EngineFailed) as caught:
        engine.client.api.containers()
    assert caught.value.cause


def test_an_engine_that_has_just_been_silent_is_not_waited_for_each_time(
    engine: Engine, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts: list[float] = []
    send = requests.Session.send

    def seen(session: requests.Session, request: Any, **options: Any) -> Any:
        timeouts.append(options["timeout"])
        return send(session, request, **options | {"timeout": 0.01 if slow.is_set() else 60})

    def answer(method: str, path: str, query: str) -> Any:
        if slow.is_set():
            over.wait(WAIT)
        return []

    _ = engine.client
    slow, over = threading.Event(), threading.Event()
    monkeypatch.setattr(requests.Session, "send", seen)
    monkeypatch.setattr(fake, "answer", answer)
    slow.set()
    for _ in range(2):
        with pytest.raises(EngineUnreachable):
            engine.client.api.containers()
    slow.clear()
    over.set()
    for _ in range(2):
        engine.client.api.containers()
    usual, shorter = engine_errors.QUESTION_TIMEOUT, engine_errors.SILENT_TIMEOUT
    assert timeouts == [usual, shorter, shorter, usual]


def test_our_own_errors_pass_through(engine: Engine) -> None:
    error = PortTaken("Port 1 is taken.")
    with pytest.raises(PortTaken) as caught, engine.translated("start"):
        raise error
    assert caught.value is error


# --- Images ---------------------------------------------------------------------------------------------------------


def test_an_image_that_is_there_is_not_pulled(engine: Engine, fake: FakeEngine) -> None:
    fake.images[IMAGE] = ["/var/lib/postgresql/data", "/other"]
    assert ensure(engine) == ("/other", "/var/lib/postgresql/data")
    assert "POST /images/create" not in fake.requests


def test_an_image_without_volumes(engine: Engine, fake: FakeEngine) -> None:
    fake.images[IMAGE] = []
    assert ensure(engine) == ()


def test_a_pull_tells_its_progress(engine: Engine, fake: FakeEngine) -> None:
    asked: list[str] = []

    def pull(query: str) -> Iterator[Message]:
        asked.append(query)
        yield {"status": "Pulling from library/postgres", "id": "14-alpine"}
        yield {"status": "Pulling fs layer", "progressDetail": {}, "id": "a"}
        yield downloading("a", 12_000_000)
        yield downloading("b", 1_000_000)
        yield downloading("a", 40_000_000)
        yield {"status": "Extracting", "id": "a", "progressDetail": {"current": 1, "total": 40_000_000}}
        yield {"status": "Download complete", "progressDetail": {}, "id": "a"}
        fake.images[IMAGE] = ["/data"]

    fake.pull = pull
    words: list[str] = []
    assert ensure(engine, on_progress=words.append) == ("/data",)
    assert words == [
        "pulling postgres:14-alpine",
        "pulled 12 of 40 MB",
        "pulled 13 of 80 MB",
        "pulled 41 of 80 MB",
    ]
    assert asked == ["tag=14-alpine&fromImage=postgres"]


REFUSED = 'Get "https://registry.example/v2/": dial tcp: lookup registry.example: no such host'


def fails_at_once(query: str) -> Iterator[Message]:
    raise Refusal(500, REFUSED)
    yield {}


def fails_later(query: str) -> Iterator[Message]:
    yield {"status": "Pulling from library/postgres", "id": "14-alpine"}
    yield {"errorDetail": {"message": REFUSED}, "error": REFUSED}


@pytest.mark.parametrize("pull", [fails_at_once, fails_later])
def test_an_image_that_is_absent_while_no_registry_answers(
    engine: Engine, fake: FakeEngine, pull: Callable[[str], Iterator[Message]]
) -> None:
    fake.pull = pull
    with pytest.raises(ImageUnavailable) as caught:
        ensure(engine)
    assert str(caught.value) == (
        "The image postgres:14-alpine is not on the engine and could not be pulled.\n"
        "  where: POSTGRES_IMAGE\n"
        f"  cause: {REFUSED}\n"
        "\n"
        "hint: docker pull postgres:14-alpine, or set POSTGRES_IMAGE to an image that is there (docker image ls)"
    )


def test_a_pull_that_breaks_off(engine: Engine, fake: FakeEngine) -> None:
    def pull(query: str) -> Iterator[Message]:
        yield downloading("a", 1_000_000)
        raise BreakOff

    fake.pull = pull
    with pytest.raises(ImageUnavailable) as caught:
        ensure(engine)
    assert caught.value.cause
    assert_in_our_words(caught.value)


def test_a_pull_that_succeeds_without_an_image(engine: Engine) -> None:
    with pytest.raises(EngineFailed, match="look up the image postgres:14-alpine") as caught:
        ensure(engine)
    assert caught.value.cause == "No such image: postgres:14-alpine"


def endless(query: str) -> Iterator[Message]:
    return (downloading("a", number) for number in itertools.count())


def test_a_pull_that_is_called_off(engine: Engine, fake: FakeEngine) -> None:
    fake.pull = endless
    cancelled = threading.Event()

    def on_progress(words: str) -> None:
        if words.startswith("pulled"):
            cancelled.set()

    with pytest.raises(StartCancelled, match="Pulling postgres:14-alpine was cancelled"):
        ensure(engine, on_progress=on_progress, cancelled=cancelled)
    # The connection of that pull is not used for what follows.
    fake.images[IMAGE] = []
    assert ensure(engine) == ()


def silent(query: str) -> Iterator[Message]:
    """Says something, and then nothing for as long as it is listened to."""
    yield {"status": "Pulling from library/postgres", "id": "14-alpine"}
    threading.Event().wait(WAIT)


def test_a_pull_that_hangs_is_called_off(engine: Engine, fake: FakeEngine) -> None:
    fake.pull = silent
    cancelled = threading.Event()
    with pytest.raises(StartCancelled):
        ensure(engine, on_progress=lambda words: cancelled.set(), cancelled=cancelled)


def test_a_pull_that_hangs_ends_with_its_timeout(engine: Engine, fake: FakeEngine) -> None:
    fake.pull = silent
    with pytest.raises(ImageUnavailable, match=r"longer than TRITON_PULL_TIMEOUT \(0\.05 s\)"):
        ensure(engine, Settings(triton_pull_timeout=0.05))


def test_a_pull_that_takes_too_long(engine: Engine, fake: FakeEngine) -> None:
    fake.pull = endless
    with pytest.raises(ImageUnavailable, match=r"longer than TRITON_PULL_TIMEOUT \(0\.05 s\)"):
        ensure(engine, Settings(triton_pull_timeout=0.05))


def test_pulling_may_be_forbidden(engine: Engine, fake: FakeEngine) -> None:
    with pytest.raises(ImageUnavailable, match="TRITON_PULL is never"):
        ensure(engine, Settings(triton_pull="never"))
    assert "POST /images/create" not in fake.requests


# --- Addresses and ports --------------------------------------------------------------------------------------------

OWN_ID = "0123456789abcdef" * 4


@pytest.fixture
def maybe_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process might run in the container OWN_ID: the engine has to tell."""
    monkeypatch.setattr(engine_module, "possible_own_container_ids", lambda: (OWN_ID,))


def own_container(mode: str, **gateways: str) -> dict[str, object]:
    networks = {name: {"Gateway": gateway} for name, gateway in gateways.items()}
    return {"Id": OWN_ID, "HostConfig": {"NetworkMode": mode}, "NetworkSettings": {"Networks": networks}}


def test_a_machine_that_the_engine_does_not_know_is_no_container_of_it(
    engine: Engine, maybe_in_a_container: None
) -> None:
    plan = engine.addresses(Settings())
    assert (plan.bind, plan.host) == ("127.0.0.1", "127.0.0.1")


def test_a_container_of_the_engine_reaches_ports_at_its_gateway(
    engine: Engine, fake: FakeEngine, maybe_in_a_container: None
) -> None:
    fake.containers[OWN_ID] = own_container("bridge", none="", bridge="172.17.0.1")
    assert engine.addresses(Settings()).host == "172.17.0.1"


def test_a_container_on_the_hosts_network_is_as_good_as_the_host(
    engine: Engine, fake: FakeEngine, maybe_in_a_container: None
) -> None:
    fake.containers[OWN_ID] = own_container("host", host="")
    assert engine.addresses(Settings()).host == "127.0.0.1"


def test_a_bind_address_from_the_settings(engine: Engine, maybe_in_a_container: None) -> None:
    assert engine.addresses(Settings(triton_bind_address="0.0.0.0")).bind == "0.0.0.0"


def test_who_publishes_a_port(engine: Engine, fake: FakeEngine) -> None:
    fake.published["5432"] = [{"Id": OWN_ID, "Names": ["/theirs"], "Image": "postgres:16", "Labels": {}}]
    fake.published["6379"] = [
        {"Id": OWN_ID, "Names": ["/triton-1-redis"], "Image": "redis:7", "Labels": {"org.triton-env": "true"}}
    ]
    assert engine.publisher_of(5432) == "the container theirs (image postgres:16)"
    assert engine.publisher_of(6379) == "the container triton-1-redis (image redis:7, of triton-env)"
    assert engine.publisher_of(4566) == ""
