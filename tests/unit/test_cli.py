"""The command line: exit codes, and sentences instead of stack traces."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge import cli
from bridge.vault import Vault


@pytest.fixture(autouse=True)
def bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "BAILEYS_AUTH_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WABRIDGE_STATE_DIR", str(tmp_path / "state"))


@pytest.mark.parametrize("command", [["run"], ["accounts", "list"], ["keys", "rotate"]])
def test_wrong_configuration_is_one_sentence_and_exit_code_2(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["SUPABASE_URL is not set; .env.example says what it is for."]


def test_a_generated_key_is_a_line_that_the_vault_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["keys", "generate"]) == 0
    name, _, secret = capsys.readouterr().out.strip().partition("=")
    assert name == "BAILEYS_AUTH_SECRET"
    assert len(Vault.from_secret(secret).key_ids) == 1


def test_doctor_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("✗ configuration\n    SUPABASE_URL is not set")


@pytest.mark.parametrize("command", [[], ["run"], ["doctor"], ["keys"], ["accounts"]])
def test_every_command_explains_itself(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--help"])
    assert ended.value.code == 0
    assert "usage: wabridge" in capsys.readouterr().out


def test_a_simulator_that_does_not_answer_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "sb_secret_0123456789")
    monkeypatch.setenv("BAILEYS_AUTH_SECRET", "s" * 40)
    monkeypatch.setenv("WHATSAPP_SIMULATOR_URL", "http://127.0.0.1:9")
    assert cli.main(["run"]) == 2
    assert capsys.readouterr().err.startswith("WHATSAPP_SIMULATOR_URL: no simulator answers")
