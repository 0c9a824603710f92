"""The timeline: what a start tells about itself afterwards."""

import threading
from dataclasses import FrozenInstanceError, fields

import pytest

from triton_env import Phase, Span, Timeline, TritonEnvironment
from triton_env.core.timeline import Event, Recorder
from triton_env.services import SERVICES
from unit.fakes import FakeRuntimes

TIMELINE = Timeline(
    (
        Span("s3", Phase.BOOT, 0.5, 3.0),
        Span("redis", Phase.BOOT, 0.5, 0.75),
        Span("redis", Phase.READY, 0.75, 0.75),
        Span("s3", Phase.READY, 3.0, 3.0),
    )
)


def test_total_and_slowest_are_those_of_the_last_service_to_be_ready() -> None:
    assert TIMELINE.total == 3.0
    assert TIMELINE.slowest == "s3"


def test_ready_at_is_the_moment_or_none() -> None:
    assert TIMELINE.ready_at("redis") == 0.75
    assert TIMELINE.ready_at("postgres") is None


def test_spans_of_one_service_and_their_duration() -> None:
    assert [(span.phase, span.duration) for span in TIMELINE.of("s3")] == [(Phase.BOOT, 2.5), (Phase.READY, 0.0)]


def test_an_empty_timeline() -> None:
    assert (Timeline(()).total, Timeline(()).slowest) == (0.0, None)


def test_a_reader_is_shown_a_table_with_units() -> None:
    assert repr(TIMELINE) == "<Timeline 3.00 s: s3 3.00 s, redis 0.75 s>"
    assert str(TIMELINE).splitlines() == [
        "       pull  create  boot    ready after",
        "s3                   2.50 s  3.00 s",
        "redis                0.25 s  0.75 s",
        "total: 3.00 s",
    ]
    html = TIMELINE._repr_html_()
    assert html.count("<tr>") == 3
    for cell in ("s3", "2.50 s", "3.00 s", "redis", "0.25 s", "0.75 s"):
        assert f">{cell}</td>" in html


def test_a_service_that_failed_is_shown_as_such() -> None:
    failed = Timeline((Span("s<3", Phase.BOOT, 0.5, 3.0), Span("s<3", Phase.FAILED, 3.0, 3.0)))
    assert repr(failed) == "<Timeline 3.00 s: s<3 failed after 3.00 s>"
    assert "<td>s<3" not in failed._repr_html_()
    assert (repr(Timeline(())), str(Timeline(()))[-6:]) == ("<Timeline 0.00 s>", "0.00 s")


def test_each_span_ends_where_the_next_begins() -> None:
    recorder = Recorder()
    for phase in (Phase.PULL, Phase.CREATE, Phase.BOOT, Phase.READY):
        recorder.report("redis", phase)
    spans = recorder.timeline().of("redis")
    assert [span.phase for span in spans] == [Phase.PULL, Phase.CREATE, Phase.BOOT, Phase.READY]
    assert [span.end for span in spans[:-1]] == [span.start for span in spans[1:]]
    assert spans[-1].duration == 0


def test_news_within_a_phase_begins_no_span() -> None:
    recorder = Recorder()
    recorder.report("redis", Phase.PULL)
    recorder.report("redis", Phase.PULL, "12 of 80 MB")
    recorder.report("redis", Phase.CREATE)
    assert [span.phase for span in recorder.timeline().spans] == [Phase.PULL]


def test_a_second_try_has_spans_of_its_own() -> None:
    recorder = Recorder()
    for phase in (Phase.CREATE, Phase.BOOT, Phase.CREATE, Phase.BOOT, Phase.READY):
        recorder.report("redis", phase)
    phases = [span.phase for span in recorder.timeline().spans]
    assert phases == [Phase.CREATE, Phase.BOOT, Phase.CREATE, Phase.BOOT, Phase.READY]


def test_the_listener_hears_every_event_in_order_from_any_thread() -> None:
    heard: list[Event] = []
    recorder = Recorder(heard.append)

    def report(service: str) -> None:
        for number in range(100):
            recorder.report(service, Phase.PULL, str(number))

    threads = [threading.Thread(target=report, args=(service,)) for service in SERVICES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for service in SERVICES:
        assert [event.detail for event in heard if event.service == service] == [str(n) for n in range(100)]
    # Each reads the clock before it waits for its turn, so the order is that of arrival.
    assert len(heard) == 400


def test_an_environment_tells_its_timeline(runtimes: FakeRuntimes) -> None:
    with TritonEnvironment() as env:
        timeline = env.timeline
    assert timeline.slowest in SERVICES
    assert timeline.total == max(timeline.ready_at(name) or 0 for name in SERVICES)
    assert [span.start for span in timeline.spans] == sorted(span.start for span in timeline.spans)
    for name in SERVICES:
        assert [span.phase for span in timeline.of(name)] == [Phase.PULL, Phase.CREATE, Phase.BOOT, Phase.READY]
        assert 0 < (timeline.ready_at(name) or 0) <= timeline.total
    assert env.timeline == timeline


def test_a_restart_begins_another_timeline(runtimes: FakeRuntimes) -> None:
    env = TritonEnvironment(services=("redis",))
    with env:
        first = env.timeline
    with env:
        assert env.timeline != first


@pytest.mark.parametrize("value", [TIMELINE, TIMELINE.spans[0], Event("redis", Phase.PULL, 0.0)])
def test_timelines_are_frozen(value: Timeline | Span | Event) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(value, fields(value)[0].name, None)
