"""Commands for another shell: they go where the settings are, and name what they mean."""

from pathlib import Path

import pytest

from triton_env import Settings
from triton_env.cli.elsewhere import evaluated, for_persistent, variables_of_persistent, variables_of_session


def test_a_session_is_named_by_its_id_and_by_where_it_is_listed(tmp_path: Path) -> None:
    settings = Settings(triton_state_dir=str(tmp_path / "my state"))
    command = variables_of_session(settings, "1a2b3c4d", "shell")
    place = f"TRITON_STATE_DIR='{tmp_path / 'my state'}'"
    assert command == f"{place} python -m triton_env env --session 1a2b3c4d --format shell"
    assert evaluated(command) == f'eval "$({command})"'


def test_persistent_services_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert for_persistent(Settings(), "down") == "python -m triton_env down"
    (folder / ".env").write_text("TRITON_PROJECT=mine\n")
    assert for_persistent(Settings(), "down") == f"cd '{folder}' && python -m triton_env down --project mine"
    variables = variables_of_persistent(Settings(), "shell")
    assert variables == f"cd '{folder}' && python -m triton_env env --persistent --format shell --project mine"
