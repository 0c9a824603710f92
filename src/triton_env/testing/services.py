"""What users rely on of each service, whatever runs it."""

import json
import re
import socket
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import pytest

from triton_env.core.findings import Finding
from triton_env.core.settings_group import Role
from triton_env.environment import TritonEnvironment
from triton_env.errors import NoSharedNetwork, UsageError
from triton_env.services import SERVICES, Service
from triton_env.services.base_checks import Checks
from triton_env.services.base_diagnostics import Diagnostics
from triton_env.services.base_insight import ROWS, Insight
from triton_env.services.base_shell import Shell
from triton_env.testing.contents import Contents

_TIMEOUT = 30
"""Seconds for one answer, on a machine that has much else to do."""


def _secrets(service: type[Service], env: TritonEnvironment) -> frozenset[str]:
    return service.recipe(env.settings).secrets


class ServiceContract:
    """The tests of one service in a running environment.

    Fixtures of the module: `env`, a `TritonEnvironment` that runs; `service_name`, one of its services; `contents`, by
    the names of services.
    """

    @pytest.fixture
    def service(self, env: TritonEnvironment, service_name: str) -> Service:
        return env.service(service_name)

    def test_it_answers_at_its_host_and_port(self, service: Service) -> None:
        with socket.create_connection((service.host, service.port), timeout=_TIMEOUT):
            pass

    def test_its_url_names_its_host_and_port(self, service: Service) -> None:
        parts = urlsplit(service.url)
        assert (parts.hostname, parts.port) == (service.host, service.port)

    def test_its_repr_says_where_it_is_and_no_secret(self, env: TritonEnvironment, service: Service) -> None:
        assert str(service.port) in repr(service)
        for secret in _secrets(type(service), env):
            assert secret not in repr(service)
            assert secret not in repr(env)

    def test_it_is_ready_again_when_asked_again(self, service: Service) -> None:
        service.ensure_ready()
        service.check_ready()

    def test_it_has_its_phases_in_the_timeline(self, env: TritonEnvironment, service: Service) -> None:
        spans = env.timeline.of(service.name)
        assert [span.phase for span in spans][-2:] == ["boot", "ready"]
        assert all(span.duration >= 0 for span in spans)
        assert env.timeline.total >= (env.timeline.ready_at(service.name) or 0) > 0

    def test_its_logs_hold_no_secret(self, env: TritonEnvironment, service: Service) -> None:
        logs = env.logs(service.name)
        assert not any(secret in logs for secret in _secrets(type(service), env))

    def test_its_credentials_are_not_those_of_daily_development(self, env: TritonEnvironment, service: Service) -> None:
        development = type(service).recipe(type(env.settings)()).secrets
        assert development.isdisjoint(_secrets(type(service), env))

    def test_it_says_its_version(self, service: Service) -> None:
        assert re.search(r"\d", service.server_version())
        assert service.missing() == ""

    def test_its_variables_are_in_the_environments_own(self, env: TritonEnvironment, service: Service) -> None:
        variables = service.environ()
        assert variables
        assert variables.items() <= env.environ().items()
        group = type(service).settings_group
        declared = {group.model_fields[name].variable for name in group.names_of(Role.URL, Role.HOST)}
        assert declared <= variables.keys()

    def test_containers_find_it_where_there_is_a_shared_network(self, service: Service) -> None:
        if service.internal_url is None:
            with pytest.raises(NoSharedNetwork):
                service.inside()
            with pytest.raises(NoSharedNetwork):
                service.environ(internal=True)
        else:
            assert service.inside().url == service.internal_url != service.url
            assert service.environ(internal=True).keys() == service.environ().keys()

    def test_a_client_finds_what_another_one_has_put(
        self, service: Service, service_name: str, contents: Mapping[str, Contents]
    ) -> None:
        own = contents[service_name]
        assert own.look(service) is None
        for word in ("first", "second"):
            own.put(service, word)
            assert own.look(service) == word
        own.remove(service)
        assert own.look(service) is None

    def test_a_command_line_opens_a_shell_in_it(self, service: Service) -> None:
        """Where it offers one."""
        shell: Shell | None = service.parts.load("way_in")
        if shell is not None:
            ports = [str(endpoint.port) for endpoint in service.placement.endpoints.values()]
            assert any(port in shell.way_in(service) for port in ports)
            assert shell.command
            assert shell.summary
            assert shell.description

    def test_it_says_something_about_a_test_that_failed(self, service: Service) -> None:
        """Where it offers that."""
        kind: type[Diagnostics[Any]] | None = service.parts.load("diagnostics")
        if kind is not None:
            diagnostics = kind(service, _TIMEOUT)
            assert diagnostics.title
            assert not any(secret in diagnostics.answer(time.time()) for secret in service.secrets)
            assert isinstance(diagnostics.is_noise("a line"), bool)
            assert diagnostics.advice("a line") == ""

    def test_it_reports_about_itself_what_it_declares(self, service: Service) -> None:
        """Where it offers that. Names of metrics are those that Prometheus expects."""
        kind: type[Insight[Any]] | None = service.parts.load("insight")
        if kind is not None:
            metrics = {metric.name: metric for metric in kind.metrics}
            assert all(re.fullmatch("[a-z]+(_[a-z]+)*", name) for name in metrics)
            assert all((metric.kind == "counter") == name.endswith("_total") for name, metric in metrics.items())
            assert all(metric.unit in name for name, metric in metrics.items())
            assert len(metrics) == len(kind.metrics)
            assert len({panel.name for panel in kind.panels}) == len(kind.panels)
            with closing(kind(service, _TIMEOUT)) as insight:
                sample = insight.sample()
                assert sample
                assert sample.keys() <= metrics.keys()
                assert all(value >= 0 for value in sample.values())
                for panel in kind.panels:
                    if not (panel.is_stream or panel.needs_argument):
                        table = insight.table(panel.name)
                        assert len(table.rows) <= ROWS
                        assert all(len(row.cells) == len(table.columns) for row in table.rows)
                        assert json.dumps(asdict(table), allow_nan=False)
                    with pytest.raises(UsageError):
                        # The other way round there is none of that name.
                        insight.table(panel.name) if panel.is_stream else insight.stream(panel.name, "", 1, Event())

    def test_doctor_looks_at_it(self, env: TritonEnvironment, service: Service) -> None:
        """Where it offers that."""
        checks: Checks = service.parts.load("checks") or Checks()
        image = type(service).recipe(env.settings).container.image
        findings = [*checks.of_image(image), *checks.of_settings(env.settings)]
        assert all(isinstance(finding, Finding) for finding in findings)

    def test_it_is_the_service_of_its_name(self, service: Service, service_name: str) -> None:
        assert type(service) is SERVICES[service_name]
        assert service.name == service_name
        assert type(service).settings_group.service in (service_name, "")
