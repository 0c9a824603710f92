"""Variables that belong to other programs as well, `.env` of a project, and variables that are misspelt."""

from pathlib import Path
from types import MappingProxyType

import pytest

from triton_env import Settings, TritonEnvironment
from triton_env.errors import InvalidSetting
from triton_env.settings import settings_in, unknown_variables
from unit.fakes import FakeRuntimes


class TestVariablesThatBelongToOthersAsWell:
    """The application has its own LOG_LEVEL, and Kubernetes sets POSTGRES_PORT for a service of that name."""

    OTHERS = MappingProxyType(
        {
            "POSTGRES_PORT": "tcp://10.0.0.1:5432",
            "REDIS_PORT": "tcp://10.0.0.1:6379",
            "LOCALSTACK_PORT": "tcp://x",
            "CLICKHOUSE_PORT": "tcp://10.0.0.1:9000",
            "CLICKHOUSE_HTTP_PORT": "tcp://x",
            "AWS_ENDPOINT_URL": "auto",
            "DEBUG_MODE": "release",
            "API_PORT": "auto",
            "LOG_LEVEL": "WARN",
            "ENVIRONMENT": "ci",
        }
    )

    @pytest.fixture(autouse=True)
    def others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in self.OTHERS.items():
            monkeypatch.setenv(name, value)

    def test_do_not_stop_a_session_that_uses_none(self, runtimes: FakeRuntimes) -> None:
        with TritonEnvironment() as env:
            assert env.environ()["POSTGRES_PORT"] == str(env.postgres.port)

    @pytest.mark.parametrize(
        ("mode", "kind", "variable"),
        [
            ("fixed", "postgres", "POSTGRES_PORT"),
            ("fixed", "s3", "LOCALSTACK_PORT"),
            ("external", "clickhouse", "CLICKHOUSE_HTTP_PORT"),
            ("external", "s3", "AWS_ENDPOINT_URL"),
            ("persistent", "redis", "REDIS_PORT"),
        ],
    )
    def test_are_checked_where_they_are_used(self, mode: str, kind: str, variable: str, runtimes: FakeRuntimes) -> None:
        environment = TritonEnvironment(
            Settings(triton_ports="fixed" if mode == "fixed" else "random"),
            services=(kind,),
            runtime="external" if mode == "external" else "docker",
            persistent=mode == "persistent",
        )
        with pytest.raises(InvalidSetting, match=f"{variable} cannot be '{self.OTHERS[variable]}'"):
            environment.start()
        assert runtimes.names == []

    def test_kubernetes_is_named(self) -> None:
        with pytest.raises(InvalidSetting, match="hint: Kubernetes sets it"):
            Settings().check("POSTGRES_PORT")

    def test_their_values_are_not_replaced_silently(self) -> None:
        settings = Settings()
        with pytest.raises(InvalidSetting, match="API_PORT cannot be 'auto'"):
            _ = settings.api_port
        assert settings.updated(api_port=1).api_port == 1
        assert (settings.log_level, settings.environment) == ("WARN", "ci")


class TestDotenv:
    @pytest.mark.parametrize("marker", ["pyproject.toml", ".git"])
    def test_is_that_of_the_project_in_all_its_folders(
        self, marker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".env").write_text("S3_BUCKET=of-the-project\n")
        folder = tmp_path / "tests" / "unit"
        folder.mkdir(parents=True)
        monkeypatch.chdir(folder)
        assert Settings().s3_bucket == "triton-documents"
        (tmp_path / marker).mkdir()
        assert Settings().s3_bucket == "of-the-project"
        (tmp_path / "tests" / "pyproject.toml").touch()
        assert Settings().s3_bucket == "triton-documents"

    def test_may_be_that_of_another_folder_than_the_current_one(self, tmp_path: Path) -> None:
        Path(".env").write_text("S3_BUCKET=of-this-folder\n")
        (tmp_path / ".env").write_text("S3_BUCKET=of-the-root\nPOSTGRES_DB=a-b\n")
        settings = settings_in(tmp_path)
        assert (settings.s3_bucket, Settings().s3_bucket) == ("of-the-root", "of-this-folder")
        with pytest.raises(InvalidSetting) as caught:
            settings.check("POSTGRES_DB")
        # Wrapped before a long path.
        assert f"line 2 of {tmp_path / '.env'}" in " ".join(str(caught.value).split())

    def test_a_folder_of_that_name_is_a_virtual_environment(self) -> None:
        Path(".env").mkdir()
        assert Settings().s3_bucket == "triton-documents"

    @pytest.mark.parametrize(
        ("content", "line", "cause"),
        [
            (b"# one\n\nPOSTGRES_DB my_db\n", 3, "neither NAME=VALUE nor a comment"),
            (b"A=1\nPOSTGRES_PASSWORD='s3cret\nB=2\n", 2, "quotation mark is not closed"),
            ("A=1\nB=2\nPOSTGRES_DB=caf\u00e9\n".encode("latin-1"), 3, "0xe9; it may be ISO-8859-1"),
            ("POSTGRES_DB=x\n".encode("utf-16"), 1, "it may be UTF-16"),
        ],
    )
    def test_what_is_not_understood_is_named_with_file_and_line(self, content: bytes, line: int, cause: str) -> None:
        Path(".env").write_bytes(content)
        with pytest.raises(InvalidSetting) as caught:
            Settings()
        assert caught.value.what.startswith(f"Line {line} of {Path('.env').absolute()}")
        assert cause in caught.value.cause
        assert "s3cret" not in str(caught.value)

    def test_the_mark_of_windows_editors_is_no_part_of_a_name(self) -> None:
        Path(".env").write_bytes(b"\xef\xbb\xbfS3_BUCKET=mine\r\n")
        assert Settings().s3_bucket == "mine"


class TestMisspeltVariables:
    @pytest.fixture(autouse=True)
    def nothing_was_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(unknown_variables, "_warned", set())

    def test_are_said_once_with_what_may_be_meant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRITON_RUNTIM", "embedded")
        Path(".env").write_text("TRITON_STORGE=disk\n")
        said: list[str] = []
        for _ in range(2):
            unknown_variables.warn_of_misspelt(said.append)
        assert said == [
            "TRITON_RUNTIM in the process environment is not a setting of triton-env; did you mean TRITON_RUNTIME?",
            f"TRITON_STORGE in {Path('.env').absolute()} is not a setting of triton-env; did you mean TRITON_STORAGE?",
        ]

    def test_are_said_at_the_start_of_a_session(
        self, runtimes: FakeRuntimes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("TRITON_STORGE", "disk")
        with TritonEnvironment(Settings(triton_progress="plain"), services=("redis",)):
            assert "warning: TRITON_STORGE" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("TRITON_CACHE_DIR", "/x"),
            ("TRITON_INTERPRET", "1"),
            ("TRITON_PORT", "tcp://10.0.0.1:80"),
            ("TRITON_SERVICE_PORT", "80"),
            ("TRITON_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("TRITON_STATE_DIR", "/x"),
        ],
    )
    def test_those_of_other_programs_are_not(self, name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(name, value)
        said: list[str] = []
        unknown_variables.warn_of_misspelt(said.append)
        assert said == []
