#!/usr/bin/env python3
"""Make docs/images/dashboard-*.png: the dashboard of an environment that is at work, in both themes.

    .venv/bin/python scripts/dashboard_screenshots.py [SECONDS]

The environment works for SECONDS (300 by default) before it is shown, so that charts have something to show.
"""

import io
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import browser  # noqa: E402
from dashboard.sites import visit  # noqa: E402
from triton_env import Settings, TritonEnvironment  # noqa: E402
from triton_env.dashboard.serving import Serving  # noqa: E402

IMAGES = ROOT / "docs" / "images"
SIZE = {"width": 1280, "height": 800}
COLOURS = 256
RANGE = 300
"""Seconds that charts show."""
CLAIMS = """
create table claims as select g as id, 'C-' || lpad(g::text, 6, '0') as number,
    (random() * 9000)::numeric(10, 2) as amount, (array['open', 'paid', 'rejected'])[1 + g % 3] as state
from generate_series(1, 40000) g
"""


def worker(environment: TritonEnvironment) -> Callable[[float], None]:
    """What one round of work is: more of it in some of them."""
    postgres = environment.postgres.connect(autocommit=True)
    postgres.execute(CLAIMS)
    clickhouse = environment.clickhouse.client()
    clickhouse.command("create table visits (at DateTime, page String, took UInt32) engine = MergeTree order by at")
    redis = environment.redis.client()
    redis.mset({f"session:{number:04}": random.randbytes(40).hex() for number in range(300)})
    s3 = environment.s3.client()

    def work(share: float) -> None:
        for _ in range(round(80 * share)):
            redis.get(f"session:{random.randint(0, 340):04}")
        for _ in range(round(10 * share)):
            postgres.execute("update claims set amount = amount + 1 where id = %s", (random.randint(1, 40000),))
        postgres.execute("select state, sum(amount) from claims group by state")
        rows = round(900 * share)
        clickhouse.command(f"insert into visits select now(), 'page', rand() % 900 from numbers({rows})")
        clickhouse.query("select page, avg(took) from visits group by page")
        s3.put_object(Bucket=environment.s3.bucket, Key=f"claims/{random.randint(1, 999)}.pdf", Body=b"%PDF" * rows)

    return work


def keep_working(work: Callable[[float], None], over: threading.Event) -> None:
    while not over.wait(0.4):
        work(1.0 if time.time() % 80 < 35 else 0.3)


def take(chromium: Browser, serving: Serving, theme: str, name: str, address: str, shows: str) -> None:
    context = chromium.new_context(viewport=SIZE, color_scheme=theme, reduced_motion="reduce")
    context.add_init_script(f"localStorage.setItem('range', '{RANGE}')")
    page = context.new_page()
    visit(page, f"{serving.url}{address}")
    expect(page.get_by_text("Live", exact=True)).to_be_visible(timeout=60_000)
    expect(page.locator(shows).first).to_be_visible(timeout=60_000)
    page.wait_for_timeout(5_000)
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(IMAGES / f"dashboard-{name}.png", optimize=True)
    context.close()


def main(seconds: float) -> None:
    folder = Path(tempfile.mkdtemp(prefix="triton-screenshots-")) / "claims-service"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    os.chdir(folder)
    # Or it would show the persistent services of this machine.
    os.environ["DOCKER_HOST"] = "unix:///nonexistent/docker.sock"
    settings = Settings(triton_state_dir=str(folder.parent / "state"))
    over = threading.Event()
    with ExitStack() as stack:
        environment = stack.enter_context(TritonEnvironment(settings, runtime="embedded"))
        serving = stack.enter_context(Serving(settings))
        chromium = stack.enter_context(browser.launched())
        thread = threading.Thread(target=keep_working, args=(worker(environment), over))
        thread.start()
        stack.callback(thread.join)
        stack.callback(over.set)
        # Servers are asked every two seconds while a browser looks.
        looking = chromium.new_page()
        visit(looking, serving.url)
        looking.wait_for_timeout(seconds * 1000)
        take(chromium, serving, "light", "light", "#/", "tr[data-service]")
        take(chromium, serving, "dark", "dark", f"#/{environment.id}/service/postgres", ".chart .line")
        take(chromium, serving, "light", "logs", f"#/{environment.id}/logs", ".line")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 300)
