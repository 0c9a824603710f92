"""What the files of a pod's control group say, of both versions."""

from triton_env.runtimes.kubernetes.usage import reading

V2 = """\
== /proc/uptime
1000.50 1900.00
== /sys/fs/cgroup/cpu.stat
usage_usec 2500000
user_usec 2000000
== /sys/fs/cgroup/memory.current
300000000
== /sys/fs/cgroup/memory.max
max
== /sys/fs/cgroup/memory.stat
anon 200000000
inactive_file 50000000
== /sys/fs/cgroup/cpuacct/cpuacct.usage
== /sys/fs/cgroup/memory/memory.usage_in_bytes
== /sys/fs/cgroup/memory/memory.limit_in_bytes
== /sys/fs/cgroup/memory/memory.stat
"""
V1 = """\
== /proc/uptime
1000.50 1900.00
== /sys/fs/cgroup/cpu.stat
== /sys/fs/cgroup/memory.current
== /sys/fs/cgroup/memory.max
== /sys/fs/cgroup/memory.stat
== /sys/fs/cgroup/cpuacct/cpuacct.usage
2500000000
== /sys/fs/cgroup/memory/memory.usage_in_bytes
300000000
== /sys/fs/cgroup/memory/memory.limit_in_bytes
9223372036854771712
== /sys/fs/cgroup/memory/memory.stat
cache 1
total_inactive_file 50000000
"""


def test_both_versions_say_the_same() -> None:
    first, second = reading(V2), reading(V1)

    assert first == second
    assert first is not None
    assert (first.at, first.cpu_seconds, first.memory, first.memory_limit) == (1000.5, {0: 2.5}, 250_000_000, None)


def test_a_limit_is_read() -> None:
    found = reading(V2.replace("max\n==", "536870912\n=="))

    assert found is not None
    assert found.memory_limit == 536870912


def test_a_pod_that_shows_nothing_is_not_measured() -> None:
    assert reading("") is None
    assert reading("== /proc/uptime\n1.0 1.0\n") is None
