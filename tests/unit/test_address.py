"""Where ports are published and reached, for each way to reach an engine."""

import socket
from pathlib import Path

import pytest

from triton_env.runtimes.docker.address import address_of, plan_addresses, possible_own_container_ids

LOCAL = "unix:///var/run/docker.sock"
ID = "0123456789abcdef" * 4
OTHER_ID = "fedcba9876543210" * 4


@pytest.mark.parametrize(
    ("engine_url", "bind", "host"),
    [
        (LOCAL, "127.0.0.1", "127.0.0.1"),
        ("unix:///home/me/.docker/desktop/docker.sock", "127.0.0.1", "127.0.0.1"),
        ("npipe:////./pipe/docker_engine", "127.0.0.1", "127.0.0.1"),
        ("tcp://127.0.0.1:2375", "127.0.0.1", "127.0.0.1"),
        ("tcp://127.8.9.10:2375", "127.0.0.1", "127.0.0.1"),
        ("tcp://localhost:2375", "127.0.0.1", "127.0.0.1"),
        ("tcp://[::1]:2375", "127.0.0.1", "127.0.0.1"),
        # Nothing narrower is known without its address.
        ("tcp://10.1.2.3:2376", "0.0.0.0", "10.1.2.3"),
        ("tcp://docker.example:2376", "0.0.0.0", "docker.example"),
        ("https://docker.example:2376", "0.0.0.0", "docker.example"),
        ("tcp://[fd00::5]:2376", "0.0.0.0", "fd00::5"),
        ("ssh://me@build.example", "127.0.0.1", "127.0.0.1"),
        ("ssh://me@build.example:2222", "127.0.0.1", "127.0.0.1"),
        ("ssh://me@127.0.0.1:2222", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_by_the_engines_url(engine_url: str, bind: str, host: str) -> None:
    plan = plan_addresses(engine_url=engine_url)
    assert (plan.bind, plan.host) == (bind, host)
    assert plan.reason
    # What servers that check names have to learn.
    assert plan.name == (host if host.endswith(".example") else "")


def test_ports_of_an_engine_over_tcp_are_published_where_it_is_reached_itself() -> None:
    plan = plan_addresses(engine_url="tcp://docker.example:2376", engine_address="10.1.2.3")
    assert (plan.bind, plan.host, plan.beyond) == ("10.1.2.3", "docker.example", "")


@pytest.mark.parametrize(
    ("override", "bind", "beyond"),
    [("", "127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0", "127.0.0.1"), ("10.0.0.5", "10.0.0.5", "10.0.0.5")],
)
def test_ssh_forwards_from_where_ports_are_published(override: str, bind: str, beyond: str) -> None:
    plan = plan_addresses(engine_url="ssh://me@build.example", bind_override=override, own_gateway="172.17.0.1")
    assert (plan.bind, plan.host, plan.beyond) == (bind, "127.0.0.1", beyond)


def test_the_address_of_an_engine_over_tcp() -> None:
    assert address_of("tcp://10.1.2.3:2376") == "10.1.2.3"
    assert address_of("tcp://[fd00::5]:2376") == "fd00::5"
    for other in (LOCAL, "tcp://localhost:2375", "ssh://me@10.1.2.3", "tcp://name.invalid:2375"):
        assert address_of(other) == ""


def test_beside_the_containers_in_one_of_the_same_engine() -> None:
    plan = plan_addresses(engine_url=LOCAL, own_gateway="172.17.0.1")
    assert (plan.bind, plan.host) == ("172.17.0.1", "172.17.0.1")
    assert "container of the same engine" in plan.reason


def test_a_remote_engine_is_remote_from_a_container_too() -> None:
    plan = plan_addresses(engine_url="tcp://10.1.2.3:2376", own_gateway="172.17.0.1")
    assert (plan.bind, plan.host) == ("0.0.0.0", "10.1.2.3")


@pytest.mark.parametrize(
    ("engine_url", "override", "own_gateway", "host"),
    [
        (LOCAL, "0.0.0.0", "", "127.0.0.1"),
        (LOCAL, "::", "", "127.0.0.1"),
        (LOCAL, "192.168.1.5", "", "192.168.1.5"),
        (LOCAL, "127.0.0.2", "", "127.0.0.2"),
        (LOCAL, "0.0.0.0", "172.17.0.1", "172.17.0.1"),
        (LOCAL, "192.168.1.5", "172.17.0.1", "192.168.1.5"),
        # The remote address may be one that only the engine's machine knows by that name.
        ("tcp://docker.example:2376", "10.1.2.3", "", "docker.example"),
    ],
)
def test_a_bind_address_of_the_users_choice(engine_url: str, override: str, own_gateway: str, host: str) -> None:
    plan = plan_addresses(engine_url=engine_url, bind_override=override, own_gateway=own_gateway)
    assert (plan.bind, plan.host) == (override, host)
    assert f"TRITON_BIND_ADDRESS is {override}" in plan.reason


@pytest.mark.parametrize("engine_url", [LOCAL, "tcp://10.1.2.3:2376"])
def test_a_host_of_the_users_choice(engine_url: str) -> None:
    plan = plan_addresses(engine_url=engine_url, host_override="host.docker.internal", own_gateway="172.17.0.1")
    assert (plan.bind, plan.host) == ("0.0.0.0", "host.docker.internal")
    plan = plan_addresses(engine_url=engine_url, host_override="host.docker.internal", bind_override="10.0.0.1")
    assert (plan.bind, plan.host) == ("10.0.0.1", "host.docker.internal")


@pytest.fixture
def named_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose name is no container id."""
    monkeypatch.setattr(socket, "gethostname", lambda: "workstation")


def mountinfo(folder: Path, *roots: str) -> Path:
    """As in a container: the fourth column is the root of the mount within its file system."""
    lines = ["706 705 0:59 / /proc rw,nosuid - proc proc rw\n"]
    lines += [f"{720 + n} 705 254:1 {root} rw,relatime - ext4 /dev/vda1 rw\n" for n, root in enumerate(roots)]
    path = folder / "mountinfo"
    path.write_text("".join(lines))
    return path


def test_own_id_from_the_mounts(tmp_path: Path, named_machine: None) -> None:
    roots = [f"/var/lib/docker/containers/{ID}/{file} /etc/{file}" for file in ("resolv.conf", "hostname", "hosts")]
    assert possible_own_container_ids(mountinfo(tmp_path, *roots)) == (ID,)


def test_own_id_with_another_data_root(tmp_path: Path, named_machine: None) -> None:
    root = f"/data/docker/containers/{ID}/hostname /etc/hostname"
    assert possible_own_container_ids(mountinfo(tmp_path, root)) == (ID,)


def test_several_candidates_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: ID[:12])
    roots = [f"/var/lib/docker/containers/{each}/hostname /etc/hostname" for each in (OTHER_ID, ID, OTHER_ID)]
    assert possible_own_container_ids(mountinfo(tmp_path, *roots)) == (OTHER_ID, ID, ID[:12])


def test_on_a_plain_machine_there_is_none(tmp_path: Path, named_machine: None) -> None:
    assert possible_own_container_ids(mountinfo(tmp_path, "/ /", "/home /home")) == ()
    assert possible_own_container_ids(mountinfo(tmp_path, "/var/lib/containers/short/x /x")) == ()


def test_containers_that_others_copy_from_are_not_ones_own(tmp_path: Path, named_machine: None) -> None:
    merged = "/var/lib/docker/overlay2/cb1f922b/merged"
    roots = [f"/var/lib/docker/containers/{ID}/{file} {merged}/etc/{file}" for file in ("resolv.conf", "hostname")]
    roots.append(f"/ /var/lib/docker/containers/{ID}/mounts/shm")
    assert possible_own_container_ids(mountinfo(tmp_path, *roots)) == ()


def test_without_proc_the_host_name_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: ID[:12])
    assert possible_own_container_ids(tmp_path / "missing") == (ID[:12],)
