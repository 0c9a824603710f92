"""Variables under an application's own names: what templates may say, where they come from, and what comes of them."""

from pathlib import Path

import pytest

from triton_env import Settings, TritonEnvironment
from triton_env.core.model import Endpoint, Placement
from triton_env.errors import InvalidSetting, NoSharedNetwork, UsageError
from triton_env.services import SERVICES, ClickHouse, Postgres, Service
from triton_env.settings.variables import expanded, of_services, parsed

PORTS = {
    "postgres": ("postgres",),
    "clickhouse": ("http", "native"),
    "redis": ("redis",),
    "s3": ("s3",),
}
SETTINGS = Settings.model_construct()


def service(name: str, *, host: str = "127.0.0.1", is_shared: bool = True) -> Service:
    endpoints = {protocol: Endpoint(host, 1000 + number) for number, protocol in enumerate(PORTS[name])}
    inside = {protocol: Endpoint(name, 1) for protocol in PORTS[name]} if is_shared else None
    return SERVICES[name](SETTINGS, Placement(endpoints, inside))


def services(*names: str) -> dict[str, Service]:
    return {name: service(name) for name in names or SERVICES}


class TestTemplates:
    def test_values_are_those_of_the_attributes(self) -> None:
        text = "A={redis.url} B=redis://{redis.host}:{redis.port}/3 'C=name {s3.bucket}' D={postgres.user}@{s3.region}"
        assert expanded(text, services()) == {
            "A": "redis://127.0.0.1:1000/0",
            "B": "redis://127.0.0.1:1000/3",
            "C": "name triton-documents",
            "D": "triton_user@us-east-1",
        }

    @pytest.mark.parametrize(
        ("field", "scheme", "port"),
        [
            ("postgres.url:asyncpg", "postgresql+asyncpg", 1000),
            ("postgres.url:psycopg", "postgresql+psycopg", 1000),
            ("clickhouse.url:connect", "clickhousedb", 1000),
            ("clickhouse.url:http", "clickhouse+http", 1000),
            ("clickhouse.url:native", "clickhouse+native", 1001),
            ("clickhouse.url:asynch", "clickhouse+asynch", 1001),
        ],
    )
    def test_urls_for_drivers(self, field: str, scheme: str, port: int) -> None:
        url = expanded(f"X={{{field}}}", services())["X"]
        assert url.startswith(f"{scheme}://")
        assert url.endswith(f"@127.0.0.1:{port}/triton")

    def test_texts_for_parts_of_urls(self) -> None:
        settings = SETTINGS.updated(**vars(Settings(postgres_password="a@b/c%d")))
        postgres = Postgres(settings, Placement({"postgres": Endpoint("127.0.0.1", 1)}))
        text = "A={postgres.password} B={postgres.password:quoted} C={postgres.url:asyncpg}"
        variables = expanded(text, {"postgres": postgres})
        assert variables["A"] == "a@b/c%d"
        assert variables["B"] == "a%40b%2Fc%25d"
        assert variables["C"] == "postgresql+asyncpg://triton_user:a%40b%2Fc%25d@127.0.0.1:1/triton"

    @pytest.mark.parametrize("driver", ["", "a b", "x\ny", "psycopg://"])
    def test_what_is_no_name_of_a_driver_makes_no_url(self, driver: str) -> None:
        with pytest.raises(UsageError, match="has no URL for"):
            service("postgres").url_for(driver)

    def test_urls_inside_of_urls(self) -> None:
        found = expanded("A=x://?to={redis.url:quoted}", services())
        assert found == {"A": "x://?to=redis%3A%2F%2F127.0.0.1%3A1000%2F0"}

    def test_addresses_on_the_shared_network(self) -> None:
        text = "A={postgres.url:asyncpg} B={clickhouse.http_port} C={s3.endpoint_url}"
        variables = expanded(text, services(), internal=True)
        assert variables["A"].endswith("@postgres:1/triton")
        assert (variables["B"], variables["C"]) == ("1", "http://s3:1")
        with pytest.raises(NoSharedNetwork):
            expanded(text, {"postgres": service("postgres", is_shared=False)}, internal=True)

    def test_what_needs_other_services_is_left_out(self) -> None:
        text = "A={redis.url} B={redis.host},{postgres.host}"
        assert list(expanded(text, services("redis"))) == ["A"]

    def test_they_win_over_names_of_ours(self) -> None:
        variables = of_services(services("postgres"), "DATABASE_URL={postgres.url:asyncpg}")
        assert variables["DATABASE_URL"].startswith("postgresql+asyncpg://")
        assert variables["POSTGRES_PORT"] == "1000"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("A={mongo.url}", "there is no service 'mongo'"),
            ("A={redis.nothing}", "redis has no 'nothing'"),
            # Attributes that are no texts, and methods, are none of these.
            ("A={redis.client}", "redis has no 'client'"),
            ("A={redis.placement}", "redis has no 'placement'"),
            ("A={s3.url:boto}", "S3 has no URL for 'boto'"),
            ("A={clickhouse.url:asyncpg}", "ClickHouse has no URL for 'asyncpg'"),
            ("A={postgres.host:upper}", "there is no form 'upper'"),
        ],
    )
    def test_a_mistake_is_found_before_anything_starts(self, text: str, words: str) -> None:
        with pytest.raises(InvalidSetting, match=words):
            TritonEnvironment(Settings(triton_variables=text), services=("redis",))

    @pytest.mark.parametrize("text", ["A", "=x", "1A={redis.url}", "A=x", "A={redis}", "A={}", "A='{redis.url}"])
    def test_what_is_no_template_is_not_taken(self, text: str) -> None:
        with pytest.raises(InvalidSetting, match="TRITON_VARIABLES cannot be"):
            Settings(triton_variables=text)

    @pytest.mark.parametrize(
        "text",
        [
            "postgresql://me:hunter2@host/db",
            "A={redis.url} postgresql://me:hunter2@host/db",
            "A=postgresql://me:hunter2@host/db",
            "A='postgresql://me:{hunter2}@host/db'",
            "A='{redis.url} hunter2",
        ],
    )
    def test_a_password_in_what_is_no_template_is_not_shown(self, text: str) -> None:
        with pytest.raises(InvalidSetting) as caught:
            Settings(triton_variables=text)
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("text", ["A", "A={mongo.url}"])
    def test_a_mistake_names_the_place_that_it_comes_from(
        self, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".env").write_text(f"# ours\nTRITON_VARIABLES={text}\n")
        with pytest.raises(InvalidSetting, match="TRITON_VARIABLES comes from line 2 of") as caught:
            TritonEnvironment(services=("redis",))
        assert str(tmp_path / ".env") in str(caught.value)
        monkeypatch.setenv("TRITON_VARIABLES", text)
        with pytest.raises(InvalidSetting, match="TRITON_VARIABLES comes from the process environment"):
            TritonEnvironment(services=("redis",))

    def test_a_protocol_that_is_not_there(self) -> None:
        placement = Placement({"http": Endpoint("127.0.0.1", 1)})
        embedded = ClickHouse(SETTINGS, placement)
        for text in ("A={clickhouse.native_port}", "A={clickhouse.url:native}"):
            with pytest.raises(UsageError, match=r"no native(_port| protocol)"):
                expanded(text, {"clickhouse": embedded})


class TestWhereTheyComeFrom:
    TABLE = '[tool.triton-env.variables]\nA = "{redis.url}"\n"B" = "a b {redis.host}"\n'

    def test_pyproject_of_the_project_in_all_its_folders(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "pyproject.toml").write_text(self.TABLE)
        (tmp_path / "tests").mkdir()
        monkeypatch.chdir(tmp_path / "tests")
        assert parsed(Settings().triton_variables) == {"A": "{redis.url}", "B": "a b {redis.host}"}

    def test_variable_and_argument_come_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "pyproject.toml").write_text(self.TABLE)
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".env").write_text("TRITON_VARIABLES=C={redis.url}\n")
        assert list(parsed(Settings().triton_variables)) == ["C"]
        monkeypatch.setenv("TRITON_VARIABLES", "D={redis.url}")
        assert list(parsed(Settings().triton_variables)) == ["D"]
        assert list(parsed(Settings(triton_variables="E={redis.url}").triton_variables)) == ["E"]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("[tool.triton-env.variables]\nA = 1\n", "each value has to be a text"),
            ("[tool.triton-env.variables]\nA = \n", "cannot be read"),
            ('[tool.triton-env.variables]\nA = "x"\n', "A has no {SERVICE.ATTRIBUTE}"),
        ],
    )
    def test_a_table_that_cannot_be_used_is_named(
        self, content: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "pyproject.toml").write_text(content)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InvalidSetting) as caught:
            Settings()
        message = str(caught.value)
        assert words in message
        assert str(tmp_path / "pyproject.toml") in message

    @pytest.mark.parametrize(
        "content",
        [
            '[tool.triton-env]\nvariables = { A = "{redis.url}" }\n',
            '[tool.triton-env]\nvariables.A = "{redis.url}"\n',
            '[ tool . "triton-env" . variables ]\nA = "{redis.url}"\n',
            'tool.triton-env.variables.A = "{redis.url}"\n',
        ],
    )
    def test_the_table_in_each_way_that_toml_has(
        self, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "pyproject.toml").write_text(content)
        monkeypatch.chdir(tmp_path)
        assert parsed(Settings().triton_variables) == {"A": "{redis.url}"}

    @pytest.mark.parametrize(
        "content",
        [
            '# [tool.triton-env.variables]\n# A = "{redis.url}"\n',
            '[project]\ndependencies = ["triton-env"]\n[tool.x]\nvariables = 1\n',
            "[tool]\ntriton-env = 1 # variables\n",
        ],
    )
    def test_what_only_looks_like_the_table_is_none(
        self, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "pyproject.toml").write_text(content)
        monkeypatch.chdir(tmp_path)
        assert Settings().triton_variables == ""

    def test_other_tables_are_not_looked_at(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "pyproject.toml").write_text("this is no TOML\n")
        monkeypatch.chdir(tmp_path)
        assert Settings().triton_variables == ""
