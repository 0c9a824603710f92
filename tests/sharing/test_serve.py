"""`serve --reuse` and other processes on one environment; and what a warm start loads."""

import json
import os
import signal
import subprocess
import sys

import forkserver
from patience import WAIT
from sharing.users import Sharing


def test_serve_holds_one_for_others_and_joins_one_that_is_there(shared: Sharing) -> None:
    command = [sys.executable, "-m", "triton_env", "serve", "--reuse", "--services", "redis", "--json"]
    variables = os.environ | shared.variables | {"TRITON_STATE_DIR": str(shared.state)}
    user = shared.join()
    with forkserver.Popen(
        command, env=variables, cwd=shared.state, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as serve:
        assert serve.stdout is not None
        assert json.loads(serve.stdout.readline())["id"] == user.id
        user.stop()
        other = shared.join()
        assert other.id == user.id
        serve.send_signal(signal.SIGINT)
        _, words = serve.communicate(timeout=WAIT)
    assert serve.returncode == 0, words
    assert "Left. The services end 0 s after the last process that uses them." in words
    assert other.do("env.redis.client().ping()")
    other.stop()
    assert shared.is_gone()


def test_a_warm_start_loads_no_driver_and_no_sdk(shared: Sharing) -> None:
    shared.join()
    warm = shared.join(is_fresh=True)
    loaded = warm.do("sorted(__import__('sys').modules)")
    # `redis` is ours: `triton_env.services.redis.service`.
    assert not {"docker", "testcontainers", "boto3", "botocore", "psycopg", "redis", "clickhouse_connect"} & set(loaded)
