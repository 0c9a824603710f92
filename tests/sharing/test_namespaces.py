"""Namespaces in a shared environment: each process has its own, and kept ones hold the environment."""

import os
import sys

import pytest

import forkserver
from patience import WAIT, until
from sharing.users import Sharing, User

MAKE = "[setattr(env, 'ns', env.namespace()), env.ns.id][1]"


def write_and_read(user: User, value: str) -> str:
    user.do(f"env.ns.redis.client().set('key', '{value}')")
    return str(user.do("env.ns.redis.client().get('key').decode()"))


def test_each_process_has_its_own(shared: Sharing) -> None:
    users = [shared.join(), shared.join()]
    assert len({user.do(MAKE) for user in users}) == 2
    assert [write_and_read(user, str(number)) for number, user in enumerate(users)] == ["0", "1"]
    assert users[0].do("env.ns.redis.client().get('key').decode()") == "0"
    users[0].kill()
    assert users[1].do("env.ns.redis.client().get('key').decode()") == "1"
    users[1].stop()
    assert shared.is_gone()


def test_it_is_reset_by_the_only_one_who_uses_it(shared: Sharing) -> None:
    one, two = shared.join(), shared.join()
    one.do("env.redis.client().set('key', '1')")
    with pytest.raises(AssertionError, match="ended without a word"):
        two.do("env.reset()")
    assert "UsageError" in shared.words()
    assert two.process.wait(WAIT) != 0
    assert one.do("env.redis.client().exists('key')") == 1
    one.do("env.reset()")
    assert one.do("env.redis.client().exists('key')") == 0
    one.stop()


def test_a_kept_one_holds_the_environment_until_it_is_given_up(shared: Sharing) -> None:
    user = shared.join()
    user.do(MAKE)
    assert write_and_read(user, "kept") == "kept"
    user.do("env.ns.keep()")
    user.stop()
    assert not until(lambda: not shared.folders(), 1.0)
    other = shared.join()
    assert other.id == user.id
    other.stop()
    # Without an engine: what other tests left there for a moment is theirs.
    variables = os.environ | {"TRITON_STATE_DIR": str(shared.state), "DOCKER_HOST": f"unix://{shared.state}/no.sock"}
    prune = [sys.executable, "-m", "triton_env", "prune", "--kept"]
    done = forkserver.run(prune, env=variables, cwd=shared.state, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert shared.is_gone()
