"""What differs between the images and the embedded servers is what the tables of docs/reference/runtimes.md say."""

from collections.abc import Callable, Mapping

import pytest

from server_differences import DIFFERENCES
from triton_env import TritonEnvironment

pytestmark = pytest.mark.timeout(500)


def answers(env: TritonEnvironment, service: str) -> Mapping[str, str]:
    return {each.subject: each.probe(env) for each in DIFFERENCES[service]}


@pytest.mark.parametrize("service", DIFFERENCES)
def test_embedded(warm: Callable[[str], TritonEnvironment], service: str) -> None:
    expected = {each.subject: each.embedded for each in DIFFERENCES[service]}
    assert answers(warm("embedded"), service) == expected


@pytest.mark.docker
@pytest.mark.parametrize("service", DIFFERENCES)
def test_docker(warm: Callable[[str], TritonEnvironment], service: str) -> None:
    env = warm("docker")
    # The stand-in image of ClickHouse has the embedded server in it.
    is_ours = service == "clickhouse" and "standin" in env.settings.clickhouse_image
    expected = {each.subject: each.embedded if is_ours else each.docker for each in DIFFERENCES[service]}
    assert answers(env, service) == expected
