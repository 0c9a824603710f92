"""The dashboard's page where what runs changes under it, or cannot be looked at for a moment."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from dashboard.sites import Site, answered, site
from patience import until
from triton_env import Settings
from triton_env.dashboard import watch
from triton_env.errors import InvalidSetting
from triton_env.inspection import EnvironmentEntry, Inspection, Owner, ServiceEntry

pytestmark = pytest.mark.timeout(600)

PROGRAM = Owner(pid=1, held_by="python", command="python", project="/project", since=None, is_alive=True)
REDIS = ServiceEntry(
    name="redis", title="Redis", state="running", host="127.0.0.1", ports={"redis": 1}, url=None, container=None
)


def entry(identity: str, mode: Any = "session", owner: Owner = PROGRAM) -> EnvironmentEntry:
    return EnvironmentEntry(
        id=identity,
        mode=mode,
        runtime="external" if mode == "external" else "embedded",
        reason="",
        started=datetime.now(UTC),
        owner=owner,
        users=(),
        is_offered=False,
        services=(REDIS,),
        spaces=(),
        timeline=(),
    )


class Seen:
    """What every look finds, until that is changed.

    Attributes:
        environments: what runs.
        error: why nothing is found; None where something is.
    """

    environments: tuple[EnvironmentEntry, ...] = ()
    error: InvalidSetting | None = None

    def inspect(self, settings: Settings, *, ask: bool = False) -> Inspection:
        if self.error:
            raise self.error
        return Inspection(asked=ask, environments=self.environments, leftovers=None, engine_problem=None)


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen()


@pytest.fixture(scope="module")
def dashboard(seen: Seen, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(watch, "inspect", seen.inspect)
        monkeypatch.setattr(watch, "LOOKED_AT", 0.1)
        with site(Settings(triton_state_dir=str(tmp_path_factory.mktemp("state")))) as found:
            yield found


@pytest.fixture
def page(dashboard: Site, seen: Seen) -> Iterator[Page]:
    seen.environments, seen.error = (entry("first"),), None
    page = dashboard.window()
    yield page
    page.close()
    found, dashboard.faults = dashboard.faults, []
    assert found == []


def test_external_servers_have_no_logs_here(dashboard: Site, seen: Seen, page: Page) -> None:
    seen.environments = (entry("theirs", "external"), entry("ours"))
    dashboard.at(page, "ours", "logs")
    expect(page.get_by_role("log")).to_be_visible()
    dashboard.at(page, "ours", "service", "redis", "logs")
    expect(page.get_by_role("log")).to_be_visible()

    dashboard.asked.clear()
    dashboard.at(page, "theirs", "logs")
    tabs = page.get_by_role("navigation", name="Parts of the environment")
    expect(tabs.get_by_role("link", name="Services")).to_have_attribute("aria-current", "page")
    expect(tabs.get_by_role("link", name="Logs")).to_have_count(0)
    dashboard.at(page, "theirs", "service", "redis", "logs")
    tabs = page.get_by_role("navigation", name="Parts of the service")
    expect(tabs.get_by_role("link", name="Metrics")).to_have_attribute("aria-current", "page")
    expect(tabs.get_by_role("link", name="Log", exact=True)).to_have_count(0)
    assert [url for url in dashboard.asked if "/theirs/logs" in url] == []


def test_the_question_names_what_the_program_has_started_since(dashboard: Site, seen: Seen, page: Page) -> None:
    dashboard.at(page, "first")
    stop = page.locator("[data-action=stop]")
    expect(stop).to_be_visible()
    seen.environments = (entry("first"), entry("second"))
    expect(page.locator("#nav .nav-environment")).to_have_count(2)
    stop.click()
    expect(page.get_by_role("dialog")).to_contain_text("with its other environment second")
    answered(page, "Cancel")


def test_no_question_is_asked_that_may_say_too_little(dashboard: Site, page: Page) -> None:
    dashboard.at(page, "first")
    stop = page.locator("[data-action=stop]")
    expect(stop).to_be_visible()
    page.route("**/actions", lambda route: route.fulfill(status=503))
    stop.click()
    expect(page.locator(".message.bad")).to_contain_text("status 503")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.unroute("**/actions")
    stop.click()
    expect(page.get_by_role("dialog")).to_contain_text("This loses")
    answered(page, "Cancel")


def test_actions_are_asked_for_again_after_an_error(dashboard: Site, seen: Seen, page: Page) -> None:
    stop = page.locator("[data-action=stop]")
    page.route("**/actions", lambda route: route.fulfill(status=503))
    with page.expect_response("**/actions"):
        dashboard.at(page, "first")
    expect(page.locator("tr[data-service]")).to_be_visible()
    expect(stop).to_have_count(0)
    page.unroute("**/actions")

    def is_there_after_a_change() -> bool:
        seen.environments = (entry("first"),)
        return stop.is_visible()

    assert until(is_there_after_a_change)


def test_what_was_gone_for_a_moment_has_its_samples_again(dashboard: Site, seen: Seen, page: Page) -> None:
    asked: list[str] = []

    def sampled(route: Route) -> None:
        asked.append(route.request.url)
        now = datetime.now(UTC).timestamp()
        samples = [
            {"at": datetime.fromtimestamp(now - before, UTC).isoformat(), "values": {"memory": 2**20}}
            for before in (20, 10)
        ]
        route.fulfill(json=samples)

    page.route("**/first/services/redis/samples?*", sampled)
    dashboard.at(page, "first", "service", "redis")
    memory = page.locator("[data-metric=memory] .chart-value")
    expect(memory).to_contain_text("MiB")
    both, seen.environments = seen.environments, ()
    expect(page.get_by_text("This environment does not run")).to_be_visible()
    before = len(asked)
    seen.environments = both
    expect(memory).to_contain_text("MiB")
    assert len(asked) > before
    expect(page.locator("[data-action=stop], [data-action=restart]").first).to_be_visible()


def test_a_problem_goes_with_its_cause(dashboard: Site, seen: Seen, page: Page) -> None:
    dashboard.at(page, "first")
    expect(page.locator("tr[data-service]")).to_be_visible()
    seen.error = InvalidSetting("The state folder cannot be used.")
    expect(page.get_by_text("The state folder cannot be used.")).to_be_visible()
    seen.error = None
    expect(page.get_by_text("The state folder cannot be used.")).to_have_count(0)
    expect(page.locator("tr[data-service]")).to_be_visible()
