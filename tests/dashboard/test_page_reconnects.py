"""The dashboard's page where nothing runs, and where its server ends and comes back."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from dashboard.served import without_engine
from dashboard.sites import Site, site, visit
from triton_env import Settings
from triton_env.dashboard.serving import Serving

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with without_engine(), site(Settings(triton_state_dir=str(tmp_path_factory.mktemp("state")))) as found:
        yield found


def test_where_nothing_runs_it_says_how_to_start(dashboard: Site) -> None:
    page = dashboard.at(dashboard.window())
    expect(page.get_by_role("heading", name="Nothing runs")).to_be_visible()
    page.get_by_role("button", name="Copy python -m triton_env serve").click()
    expect(page.locator(".copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "python -m triton_env serve"
    page.close()


def test_it_connects_again_and_says_where_a_new_address_is_needed(dashboard: Site) -> None:
    page = dashboard.at(dashboard.window())
    connection = page.locator("#connection")
    expect(connection).to_have_text("Live")
    key = dashboard.serving.key
    dashboard.serving.__exit__(None, None, None)
    expect(connection).to_have_text("Reconnecting")
    expect(page.get_by_text("The dashboard does not answer")).to_be_visible()
    with Serving(dashboard.settings, key.port, key.token):
        expect(connection).to_have_text("Live")
        expect(page.get_by_text("The dashboard does not answer")).to_have_count(0)
    expect(connection).to_have_text("Reconnecting")
    with Serving(dashboard.settings, key.port) as another:
        expect(connection).to_have_text("Signed out")
        expect(page.get_by_text("The dashboard was started again")).to_be_visible()
        visit(page, another.url)
        expect(connection).to_have_text("Live")
    page.close()
