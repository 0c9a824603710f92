"""What a dashboard costs: processor and memory of its process, while no browser looks and while one does.

python benchmarks/dashboard.py [--seconds 60] [--runtime embedded]
"""

import argparse
import os
import tempfile
import time

import httpx
import psutil
from dashboard_process import dashboard

from triton_env import TritonEnvironment

_SETTLED = 20
"""Seconds after which what happens once, such as imports and first connections, is over."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="how long each row is measured")
    parser.add_argument("--runtime", default="embedded")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        os.environ["TRITON_STATE_DIR"] = state
        with TritonEnvironment(runtime=options.runtime), dashboard() as (process, url):
            alone = measured(process, options.seconds)
            with httpx.Client(trust_env=False, timeout=60) as http:
                http.get(url)
                with http.stream("GET", url.partition("/?")[0] + "/api/events"):
                    watched = measured(process, options.seconds)
    for name, (percent, memory) in (("alone", alone), ("watched", watched)):
        print(f"| `{name}` | {percent:.2f} % | {memory / 2**20:.0f} MiB |")


def measured(process: psutil.Process, seconds: int) -> tuple[float, int]:
    """Percent of a core that the process uses over some seconds, and its memory then."""
    time.sleep(_SETTLED)
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after, passed = process.cpu_times(), time.monotonic() - began
    used = after.user + after.system - before.user - before.system
    return used / passed * 100, process.memory_info().rss


if __name__ == "__main__":
    main()
