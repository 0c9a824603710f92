"""Which tests are left out, and which stay together in one process."""

import pytest

import lanes

pytest_plugins = ["pytester"]

MODULE = """
import pytest

@pytest.fixture(scope="module", autouse=True)
def patched(): pass

@pytest.fixture(scope="module", params=["docker", "embedded"])
def env(request): pass

@pytest.fixture(scope="module")
def filled(env): pass

@pytest.fixture(scope="module")
def other(): pass

@pytest.fixture(scope="module")
def both(other): pass

def test_one(env): pass
def test_two(filled): pass
def test_three(other): pass
def test_four(both): pass
def test_alone(tmp_path): pass
def test_alone_too(): pass
"""


def test_tests_that_share_a_fixture_with_the_same_value_stay_together(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    items, _ = pytester.inline_genitems(pytester.makepyfile(MODULE))
    groups = lanes.groups(items)
    names: dict[str, set[str]] = {}
    for nodeid, group in groups.items():
        names.setdefault(group, set()).add(nodeid.partition("::")[2])
    assert sorted(map(sorted, names.values())) == [
        ["test_four", "test_three"],
        ["test_one[docker]", "test_two[docker]"],
        ["test_one[embedded]", "test_two[embedded]"],
    ]


CONTAINERS = """
import pytest

@pytest.fixture(scope="session")
def environments(): pass

@pytest.mark.docker
def test_docker(environments): pass

def test_embedded(environments): pass
"""


def test_tests_that_share_containers_stay_together(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\nmarkers = docker")
    items = [item for name in ("test_a", "test_b") for item in collected(pytester, name)]
    groups = lanes.groups(items)
    assert len(set(groups.values())) == 1
    assert [nodeid.rpartition("::")[2] for nodeid in groups] == ["test_docker", "test_docker"]


def collected(pytester: pytest.Pytester, name: str) -> list[pytest.Item]:
    items, _ = pytester.inline_genitems(pytester.makepyfile(**{name: CONTAINERS}))
    return list(items)


VARIANTS = """
import pytest

pytestmark = pytest.mark.long_on("docker")

@pytest.fixture(params=["docker", "embedded"])
def env(request): pass

def test_as_the_module_says(env): pass

@pytest.mark.long_on()
def test_never(env): pass

@pytest.mark.long_on("docker", "embedded")
def test_always(env): pass

def test_alone(): pass
"""


def test_a_test_can_be_long_in_some_of_its_variants(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\nmarkers = long_on")
    items, _ = pytester.inline_genitems(pytester.makepyfile(VARIANTS))
    assert [item.name for item in items if lanes.is_long(item)] == [
        "test_as_the_module_says[docker]",
        "test_always[docker]",
        "test_always[embedded]",
    ]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ["test_quick"]),
        (["."], ["test_quick"]),
        (["--all"], ["test_quick", "test_slow"]),
        (["-m", "long"], ["test_slow"]),
        (["test_it.py"], ["test_quick", "test_slow"]),
        (["test_it.py::test_slow"], ["test_slow"]),
        (["test_it.py", "-m", "not long"], ["test_quick"]),
    ],
)
def test_the_long_lane_is_left_out_unless_it_is_asked_for(
    pytester: pytest.Pytester, arguments: list[str], names: list[str]
) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\nmarkers = long")
    pytester.makeconftest(
        """
        import lanes

        def pytest_addoption(parser):
            parser.addoption("--all", dest="all_lanes", action="store_true")

        def pytest_collection_modifyitems(config, items):
            lanes.leave_out_long(config, items)
        """
    )
    pytester.makepyfile(
        test_it="import pytest\ndef test_quick(): pass\n@pytest.mark.long\ndef test_slow(): pass\n",
    )
    (collected,) = pytester.inline_run("--collect-only", *arguments).getcalls("pytest_collection_finish")
    assert [item.name for item in collected.session.items] == names
