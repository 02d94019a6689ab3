"""Every variable has a default or a sentence."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from bridge.config import VARIABLES, environment, read_settings
from bridge.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a-secret-that-nobody-guesses-0123456789"


def jwt(role: str) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"role": role}).encode()).rstrip(b"=").decode()
    return f"e30.{claims}.signature"


GOOD = {
    "SUPABASE_URL": "https://abcdefgh.supabase.co/",
    "SUPABASE_SERVICE_ROLE_KEY": "sb_secret_0123456789",
    "BAILEYS_AUTH_SECRET": SECRET,
}


def sentence_for(**changed: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_settings(GOOD | changed)
    return caught.value.sentence


def test_three_variables_are_enough() -> None:
    settings = read_settings(GOOD)
    assert settings.supabase_url == "https://abcdefgh.supabase.co"
    assert settings.lease_s == 10
    assert settings.poll_interval_s == 2
    assert settings.realtime
    assert settings.simulator_url is None
    assert settings.state_dir.is_absolute()


@pytest.mark.parametrize("name", [v.name for v in VARIABLES if v.default is None])
def test_a_missing_variable_is_named(name: str) -> None:
    assert sentence_for(**{name: " "}).startswith(f"{name} is not set")


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("SUPABASE_URL", "abcdefgh.supabase.co"),
        ("SUPABASE_URL", "ftp://abcdefgh.supabase.co"),
        ("SUPABASE_URL", "https://abcdefgh.supabase.co/rest/v1"),
        ("SUPABASE_URL", "http://[broken"),
        ("SUPABASE_SERVICE_ROLE_KEY", "guess"),
        ("SUPABASE_SERVICE_ROLE_KEY", "sb_publishable_0123456789"),
        ("SUPABASE_SERVICE_ROLE_KEY", jwt("anon")),
        ("SUPABASE_SERVICE_ROLE_KEY", "a.b.c"),
        ("WABRIDGE_LOG_LEVEL", "loud"),
        ("WABRIDGE_LOG_FORMAT", "xml"),
        ("WABRIDGE_CAPACITY", "0"),
        ("WABRIDGE_CAPACITY", "many"),
        ("WABRIDGE_ACCOUNTS_PER_ENGINE", "1.5"),
        ("WABRIDGE_LEASE_SECONDS", "1"),
        ("WABRIDGE_POLL_SECONDS", "nan"),
        ("WABRIDGE_POLL_SECONDS", "0"),
        ("WABRIDGE_REALTIME", "maybe"),
        ("WHATSAPP_SIMULATOR_URL", "http://example.com:54330"),
        ("WHATSAPP_SIMULATOR_URL", "127.0.0.1:54330"),
    ],
)
def test_a_bad_value_is_one_sentence_that_names_the_variable(name: str, bad: str) -> None:
    sentence = sentence_for(**{name: bad})
    assert sentence.startswith(f"{name} ")
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_no_sentence_repeats_a_secret() -> None:
    key = "ey-my-precious-key"
    assert key not in sentence_for(SUPABASE_SERVICE_ROLE_KEY=key)
    assert SECRET not in repr(read_settings(GOOD))
    assert GOOD["SUPABASE_SERVICE_ROLE_KEY"] not in repr(read_settings(GOOD))


def test_both_kinds_of_key_are_taken() -> None:
    legacy = jwt("service_role")
    assert read_settings(GOOD | {"SUPABASE_SERVICE_ROLE_KEY": legacy}).service_key == legacy


@pytest.mark.parametrize("url", ["http://127.0.0.1:54330", "http://localhost:1", "http://[::1]:1"])
def test_the_simulator_may_be_on_this_machine(url: str) -> None:
    assert read_settings(GOOD | {"WHATSAPP_SIMULATOR_URL": url}).simulator_url == url


def test_a_dotenv_file_fills_what_the_environment_leaves_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "# comment\nexport WABRIDGE_CAPACITY=7 # seven\nSUPABASE_URL='http://quoted'\n"
        "WABRIDGE_LOG_LEVEL=debug\nbroken line\n"
    )
    monkeypatch.setenv("WABRIDGE_LOG_LEVEL", "error")
    found = environment(tmp_path)
    assert found["WABRIDGE_CAPACITY"] == "7"
    assert found["SUPABASE_URL"] == "http://quoted"
    assert found["WABRIDGE_LOG_LEVEL"] == "error"


def test_the_example_file_has_a_line_for_every_variable() -> None:
    text = (ROOT / ".env.example").read_text()
    lines = re.findall(r"^# (.+)\n#?([A-Z_]+)=(.*)$", text, re.MULTILINE)
    assert [(name, default, meaning) for meaning, name, default in lines] == [
        (variable.name, variable.default or "", variable.meaning) for variable in VARIABLES
    ]
