"""The dashboard's page in a browser, on a session that another process holds: numbers, data, actions, keys, themes."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from dashboard.sites import Site, answered, load, rows, site, visit
from faces.served import Machine
from patience import until
from triton_env import Settings
from triton_env.dashboard.looking import declared
from triton_env.services import SERVICES
from triton_env.steering import connect

RUNTIMES = [pytest.param("docker", marks=pytest.mark.docker), "embedded"]
pytestmark = [pytest.mark.timeout(600), pytest.mark.long_on("docker")]

MARKUP = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
ESCAPES = "\x1b[31mred\x1b[0m\x07\u202egnp.exe"
LONG = "value " * 300
OVERFLOWING = """() => [...document.querySelectorAll("main *")].filter((each) => {
    const isOut = each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).overflowX === "visible";
    return isOut && getComputedStyle(each).display !== "inline" || each.matches(".track") && each.clientWidth < 40;
}).map((each) => each.outerHTML.slice(0, 200))"""
"""What is wider than its place in a window, or too narrow to show anything."""


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    if request.param == "embedded":
        request.getfixturevalue("embedded_packages")
    return str(request.param)


@pytest.fixture(scope="module")
def machine(runtime: str, callers_choice: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Machine:
    variables = os.environ | dict(callers_choice) | {"TRITON_RUNTIME": runtime}
    return Machine(tmp_path_factory.mktemp("machine"), variables)


@pytest.fixture(scope="module")
def session(machine: Machine) -> Iterator[str]:
    """All services, served in the machine's project: the id."""
    with machine.serving() as session:
        yield session


@pytest.fixture(scope="module")
def dashboard(machine: Machine) -> Iterator[Site]:
    with site(Settings(triton_state_dir=str(machine.state))) as found:
        yield found


@pytest.fixture
def page(dashboard: Site) -> Iterator[Page]:
    """A window on the dashboard, in which no script fails and no rule of the page's policy is broken."""
    page = dashboard.window()
    yield page
    page.close()
    found, dashboard.faults = dashboard.faults, []
    assert found == []


def test_what_runs_is_shown_without_secrets_and_copied_with_them(dashboard: Site, session: str, page: Page) -> None:
    visit(page, dashboard.serving.url)
    card = page.locator("section.card").filter(has_text=session)
    expect(card.locator("tr[data-service]")).to_have_count(4)
    expect(card.locator(".state.good")).to_have_count(4)
    with connect(dashboard.settings, session) as environment:
        urls = {name: environment.service(name).url for name in environment.services}
        secrets = [environment.postgres.password, environment.redis.password]
    for name, url in urls.items():
        row = card.locator(f"tr[data-service={name}]")
        row.get_by_role("button", name="Copy the URL").click()
        assert until(lambda url=url: page.evaluate("navigator.clipboard.readText()") == url), name
    # Which server it is can be read in a window of any width, and its buttons are in it.
    for width in (360, 900, 1100, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        for each in card.locator(".address, .scroll").all():
            assert each.evaluate("(shown) => shown.scrollWidth <= shown.clientWidth"), (width, each.inner_text())
    # Neither on the page nor in its address, which people share.
    assert not any(secret in page.content() for secret in secrets)
    assert dashboard.serving.key.token not in page.url
    # Nothing is asked of anyone else.
    assert {url for url in dashboard.asked if not url.startswith((dashboard.root, "data:"))} == set()
    paints = page.evaluate("performance.getEntriesByType('paint').map((each) => [each.name, each.startTime])")
    print("painted after", {name: f"{milliseconds:.0f} ms" for name, milliseconds in paints})

    card.locator("tr[data-service=postgres]").get_by_role("button", name="Connect").click()
    expect(page.get_by_role("dialog").locator("pre").first).to_have_text(urls["postgres"])
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_numbers_are_those_of_the_servers_while_a_load_runs(dashboard: Site, session: str, page: Page) -> None:
    with ExitStack() as stack:
        environment = stack.enter_context(connect(dashboard.settings, session))
        redis = environment.redis.client()
        redis.mset({f"load:{number}": number for number in range(20)})
        stack.enter_context(load(lambda: [redis.get(f"load:{number}") for number in range(20)]))
        slow = stack.enter_context(environment.postgres.connect(autocommit=True))
        slow.execute("create table claims as select g as id, 'claim ' || g as words from generate_series(1, 500) g")
        slow.execute("analyze claims")
        stack.enter_context(load(lambda: slow.execute("select pg_sleep(0.5), 'the slow one'")))
        client = environment.clickhouse.client()
        client.command("create table if not exists visits (id UInt32) engine = MergeTree order by id")
        client.command("insert into visits select number from numbers(1234)")
        environment.s3.client().put_object(Bucket=environment.s3.bucket, Key="claims/1.txt", Body=b"the first claim")

        # Charts: a rate of commands, and hits alone.
        dashboard.at(page, session, "service", "redis")
        commands = page.locator("[data-metric=commands_total] .chart-value")
        assert until(lambda: _number(commands.inner_text()) > 20)
        hits = page.locator("figure").filter(has_text="Cache hits").locator(".chart-value")
        assert until(lambda: _number(hits.inner_text()) > 50)
        memory = page.locator("[data-metric=memory] .chart-value")
        expect(memory).to_have_text(re.compile("MiB"))
        expect(page.locator("[data-metric=commands_total] .line")).to_have_attribute("d", re.compile("L"))

        # A stranger finds the slow statement.
        dashboard.at(page, session, "service", "postgres")
        page.get_by_role("link", name="Slow statements").click()
        expect(page.locator("table.data")).to_contain_text("pg_sleep")
        page.get_by_role("link", name="Sessions").click()
        expect(page.locator("table.data")).to_contain_text("the slow one")

        # From the tables to the rows of one of them.
        page.get_by_role("link", name="Tables").click()
        page.get_by_role("link", name="claims", exact=True).or_(
            page.get_by_role("link", name="public", exact=True)
        ).first.click()
        expect(page.locator("table.data")).to_contain_text("claim 200")
        for order in ("ascending", "descending"):
            page.get_by_role("button", name="id").click()
            expect(page.get_by_role("columnheader", name="id")).to_have_attribute("aria-sort", order)
        numbers = [_number(row[0]) for row in rows(page)]
        assert numbers == sorted(numbers, reverse=True)
        page.go_back()
        expect(page.locator("table.data")).to_contain_text("claims")

        dashboard.at(page, session, "service", "clickhouse", "panel", "tables")
        expect(page.locator("tr", has_text="visits")).to_contain_text("1,234")
        dashboard.at(page, session, "service", "s3", "panel", "objects")
        expect(page.locator("table.data")).to_contain_text("claims/")

        # Every other panel shows rows, or what helps where there are none.
        for name in SERVICES.usable():
            kind = declared(name)
            for panel in kind.panels if kind else ():
                dashboard.at(page, session, "service", name, "panel", panel.name)
                shown = page.locator("table.data, .empty, .lines, .problem").first
                expect(shown).to_be_visible()
                if not panel.needs_argument:
                    # A server that has no time may answer the next time.
                    assert until(lambda: page.locator(".problem").count() == 0), (name, panel.name)


def test_values_stay_text(dashboard: Site, session: str, page: Page) -> None:
    values = [MARKUP, ESCAPES, LONG]
    with connect(dashboard.settings, session) as environment:
        with environment.postgres.connect(autocommit=True) as connection:
            connection.execute(f'create table "{MARKUP.replace(chr(34), chr(34) * 2)[:60]}" (value text)')
            connection.execute("create table hostile (value text)")
            for value in values:
                connection.execute("insert into hostile values (%s)", [value])
            connection.execute("do $$ begin raise warning '%', '<b>bold</b>\x1b[31m'; end $$")
        client = environment.redis.client()
        client.set(f"hostile:{MARKUP}", MARKUP)
        environment.s3.client().put_object(
            Bucket=environment.s3.bucket, Key=f"hostile/{MARKUP}", Body=MARKUP.encode(), ContentType="text/html"
        )
        bucket = environment.s3.bucket
        database = environment.redis.database

    dashboard.at(page, session, "service", "postgres", "panel", "tables")
    expect(page.locator("table.data")).to_contain_text("<img src=x onerror=")
    page.get_by_role("link", name="hostile", exact=True).or_(
        page.locator("tr", has_text="hostile").get_by_role("link")
    ).first.click()
    shown = page.locator("table.data")
    expect(shown).to_contain_text(MARKUP)
    expect(shown).to_contain_text("^[[31mred^[[0m^G\u2039U+202E\u203agnp.exe")
    # What is long is cut, and whole on a click.
    shown.get_by_role("button", name="value value").click()
    expect(page.get_by_role("dialog").locator("pre")).to_have_text(LONG.strip())
    answered(page, "Close")

    dashboard.at(page, session, "service", "redis", "panel", "keys", f"{database}/hostile:")
    expect(page.locator("table.data")).to_contain_text(MARKUP)
    page.locator("table.data a").first.click()
    expect(page.locator("table.data")).to_contain_text(MARKUP)

    dashboard.at(page, session, "service", "s3", "panel", "objects", f"{bucket}/hostile/")
    expect(page.locator("table.data")).to_contain_text("<img src=x onerror=")

    dashboard.at(page, session, "logs")
    page.get_by_placeholder("Filter").fill("<b>bold")
    expect(page.locator(".line").first).to_contain_text("<b>bold</b>^[[31m")
    expect(page.locator(".line mark").first).to_have_text("<b>bold")
    assert page.locator("main b, main img, main script").count() == 0
    assert "taken" not in page.title()


def test_logs_are_together_filtered_and_followed(dashboard: Site, session: str, page: Page) -> None:
    dashboard.at(page, session, "logs")
    labels = page.locator(".line-label")
    expect(labels.filter(has_text="PostgreSQL").first).to_be_visible()
    expect(labels.filter(has_text="Redis").first).to_be_visible()
    page.get_by_role("button", name="Redis", exact=True).click()
    expect(labels.filter(has_text="Redis")).to_have_count(0)
    page.keyboard.press("/")
    page.keyboard.type("a line of this test")
    expect(page.locator(".line")).to_have_count(0)
    with (
        connect(dashboard.settings, session) as environment,
        environment.postgres.connect(autocommit=True) as connection,
    ):
        connection.execute("do $$ begin raise warning 'a line of this test'; end $$")
    expect(page.locator(".line", has_text="WARNING").first).to_contain_text("a line of this test")
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "false")


def test_a_stream_is_listened_to_until_it_is_stopped(dashboard: Site, session: str, page: Page) -> None:
    dashboard.at(page, session, "service", "redis", "panel", "monitor")
    page.get_by_label("For", exact=True).select_option("60")
    page.locator(".toolbar").get_by_role("button", name="Listen").click()
    with connect(dashboard.settings, session) as environment:
        client = environment.redis.client()
        with load(lambda: client.set("streamed", "<i>by this test</i>")):
            expect(page.locator(".line", has_text="<i>by this test</i>").first).to_be_visible()
            page.locator(".toolbar").get_by_role("button", name="Stop").click()
            expect(page.get_by_text(re.compile("lines?, ended"))).to_be_visible()


def test_actions_do_what_they_say_after_a_question(dashboard: Site, session: str, page: Page) -> None:
    with ExitStack() as stack:
        environment = stack.enter_context(connect(dashboard.settings, session))
        redis = environment.redis.client()
        redis.set("kept", "before")
        dashboard.at(page, session, "spaces")
        page.locator(".page-head [data-action=snapshot]").click()
        page.get_by_role("dialog").get_by_label("Name").fill("of-the-page")
        page.keyboard.press("Enter")
        expect(page.locator("tr", has_text="of-the-page")).to_be_visible()
        redis.set("kept", "after")
        restore = page.locator("tr", has_text="of-the-page").locator("[data-action=restore]")
        restore.click()
        expect(page.get_by_role("dialog")).to_contain_text("This loses")
        answered(page, "Cancel")
        assert redis.get("kept") == b"after"
        restore.click()
        answered(page, restore.inner_text())
        expect(page.locator(".message.good").last).to_contain_text("of-the-page holds")
        assert redis.get("kept") == b"before"


def test_a_backup_may_be_named(
    dashboard: Site, session: str, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("of-the-page", ""):
        dashboard.at(page, session, "spaces")
        page.locator(".page-head [data-action=backup]").click()
        page.get_by_role("dialog").get_by_label("Name of the file").fill(name)
        page.keyboard.press("Enter")
        begin = name or f"{session}-"
        expect(page.locator(".message.good", has_text=f"{tmp_path}/{begin}").last).to_contain_text("Saved")
    assert len(list(tmp_path.glob("*.backup"))) == 2


def test_redis_is_restarted_under_load(dashboard: Site, session: str, page: Page) -> None:
    with connect(dashboard.settings, session) as environment:
        redis = environment.redis.client()
        started = redis.info("server")["run_id"]
        with load(redis.ping):
            dashboard.at(page, session, "service", "redis")
            expect(page.locator(".page-head")).to_contain_text("started")
            page.locator("[data-action=restart]").click()
            expect(page.get_by_role("dialog")).to_contain_text("This loses the connections of its clients")
            answered(page, "Restart")
            expect(page.locator(".message.good", has_text="answers again")).to_be_visible()
        assert redis.info("server")["run_id"] != started


def test_an_environment_is_stopped(dashboard: Site, machine: Machine, page: Page) -> None:
    with machine.serving("redis", folder=machine.other) as session:
        dashboard.at(page, session)
        page.locator("[data-action=stop]").click()
        expect(page.get_by_role("dialog")).to_contain_text("This loses all data of the environment")
        answered(page, "Stop")
        expect(page.get_by_text("This environment does not run")).to_be_visible()
        assert session not in machine.good("ps", "--json")


def test_other_sites_and_strangers_are_refused(dashboard: Site, session: str, page: Page) -> None:
    stranger = dashboard.browser.new_context()
    unknown = stranger.new_page()
    assert unknown.goto(dashboard.root).status == 403
    assert unknown.goto(f"{dashboard.root}api/inspection").status == 403
    stranger.close()
    # A page of another port has the same cookies: the host is the same.
    foreign = f"http://127.0.0.1:{dashboard.serving.key.port ^ 1}/"
    page.route(f"{foreign}**", lambda route: route.fulfill(body="<!doctype html><title>another site</title>"))
    visit(page, foreign)
    tries = """async ([root, session]) => {
        const found = [];
        for (const options of [{}, {mode: "no-cors"}, {method: "POST", mode: "no-cors", body: "{}"},
                               {method: "POST", headers: {"X-Triton-Env": "1"}, body: "{}"}]) {
            const path = options.method ? `api/environments/${session}/actions/stop` : "api/inspection";
            try { found.push(await (await fetch(root + path, {credentials: "include", ...options})).text()); }
            catch (error) { found.push(""); }
        }
        return found;
    }"""
    assert page.evaluate(tries, [dashboard.root, session]) == [""] * 4
    dashboard.faults.clear()  # the browser says there why it let none of them through
    expect(dashboard.at(page, session).locator("tr[data-service]")).to_have_count(4)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everyone_can_use_it(dashboard: Site, session: str, page: Page, theme: str) -> None:
    page.emulate_media(color_scheme=theme)
    views = [
        (),
        (session,),
        (session, "logs"),
        (session, "start"),
        (session, "spaces"),
        (session, "service", "postgres", "panel", "statements"),
        (session, "service", "redis"),
        (session, "service", "redis", "panel", "keys"),
        (session, "service", "redis", "panel", "monitor"),
        ("not-there",),
    ]
    # In the other theme, other colours alone.
    views = views if theme == "light" else views[6:9]
    axe = Axe()
    for view in views:
        dashboard.at(page, *view)
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        expect(page.locator("main .loading")).to_have_count(0)
        found = axe.run(page)
        assert found.violations_count == 0, f"{view}: {found.generate_report()}"
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, view
        assert page.evaluate(OVERFLOWING) == [], view
        page.set_viewport_size({"width": 1280, "height": 800})


def test_keys_are_enough(dashboard: Site, session: str, page: Page) -> None:
    dashboard.at(page)
    expect(page.get_by_role("heading", name="All environments")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Keyboard shortcuts")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    dashboard.at(page, session)
    expect(page.get_by_role("navigation", name="Parts of the environment")).to_be_visible()
    page.keyboard.press("2")
    expect(page.get_by_role("log")).to_be_visible()
    page.keyboard.press("j")
    expect(page.get_by_role("heading", level=1)).to_contain_text("PostgreSQL")
    page.keyboard.press("g")
    expect(page.get_by_role("heading", level=1)).to_have_text("All environments")
    before = page.evaluate("getComputedStyle(document.body).color")
    page.keyboard.press("t")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).color") != before
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("t")


def _number(text: str) -> float:
    found = re.search(r"[\d,.]+", text)
    return float(found[0].replace(",", "")) if found else 0.0
