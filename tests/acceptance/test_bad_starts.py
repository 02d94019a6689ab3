"""What is set up wrongly is told in one clear sentence, and nothing is destroyed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bridge.sandbox.stack import StackInfo, StackOptions
from tests.acceptance.conftest import Linked
from tests.fixtures.bridge import BridgeProcess, running_bridge
from tests.fixtures.stack import running_in_background

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]


@pytest.fixture
def bridge(shared_environment: dict[str, str], tmp_path: Path) -> Iterator[BridgeProcess]:
    """A bridge of each test's own: it is going to be stopped and killed."""
    with running_bridge(shared_environment, tmp_path / "disk") as process:
        yield process


@pytest.fixture
def empty_stack(tmp_path: Path) -> Iterator[StackInfo]:
    """A project to which nothing was pushed."""
    nothing = tmp_path / "no-migrations"
    nothing.mkdir()
    options = StackOptions(
        directory=tmp_path / "empty-stack", port=0, migrations=nothing, fresh=True, durable=False
    )
    with running_in_background(options) as info:
        yield info


def run_briefly(environment: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    """`wabridge run` that is expected to give up by itself."""
    return subprocess.run(
        [sys.executable, "-m", "bridge", "run"],
        env={"PATH": "/usr/bin", "WABRIDGE_STATE_DIR": str(directory / "state"), **environment},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def the_sentence(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that the user gets."""
    assert result.returncode == 2, result
    assert "Traceback" not in result.stderr + result.stdout
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    "missing", ["SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "BAILEYS_AUTH_SECRET"]
)
def test_a_missing_variable_is_named(
    bridge_environment: dict[str, str], tmp_path: Path, missing: str
) -> None:
    del bridge_environment[missing]
    assert missing in the_sentence(run_briefly(bridge_environment, tmp_path))


def test_an_unreachable_supabase_is_told(
    bridge_environment: dict[str, str], tmp_path: Path
) -> None:
    bridge_environment["SUPABASE_URL"] = "http://127.0.0.1:9"
    assert "SUPABASE_URL" in the_sentence(run_briefly(bridge_environment, tmp_path))


def test_a_key_that_supabase_refuses_is_told(
    bridge_environment: dict[str, str], tmp_path: Path
) -> None:
    bridge_environment["SUPABASE_SERVICE_ROLE_KEY"] = "sb_secret_wrongwrongwrongwrongwrong_12345678"
    sentence = the_sentence(run_briefly(bridge_environment, tmp_path))
    assert "SUPABASE_SERVICE_ROLE_KEY" in sentence
    assert "wrongwrong" not in sentence


def test_a_database_without_migrations_is_told(
    bridge_environment: dict[str, str], empty_stack: StackInfo, tmp_path: Path
) -> None:
    bridge_environment["SUPABASE_URL"] = empty_stack.url
    bridge_environment["SUPABASE_SERVICE_ROLE_KEY"] = empty_stack.service_role_key
    assert "supabase db push" in the_sentence(run_briefly(bridge_environment, tmp_path))


def sealed_state(stack: StackInfo, account: str) -> object:
    with psycopg.connect(stack.database_url) as connection:
        return connection.execute(
            "select auth_state, generation from public.whatsapp_baileys_sessions"
            " where integration_account_id = %s",
            [account],
        ).fetchone()


async def test_the_wrong_secret_destroys_nothing(
    bridge: BridgeProcess, linked: Linked, stack: StackInfo
) -> None:
    bridge.stop()
    before = sealed_state(stack, linked.account)
    bridge.start(BAILEYS_AUTH_SECRET="another-secret-that-is-long-enough-0123456789")
    row = None
    if bridge.process is not None:
        # Other tests' accounts share this database, so the bridge may either refuse to start
        # (no session opens with this secret) or put just this account into `error`.
        try:
            assert bridge.process.wait(15) == 2
            assert "BAILEYS_AUTH_SECRET" in bridge.log
        except subprocess.TimeoutExpired:
            row = await linked.frontend.until_account(linked.account, "error")
            assert "BAILEYS_AUTH_SECRET" in row["status_detail"]
            bridge.stop()
    assert sealed_state(stack, linked.account) == before

    bridge.start()
    await linked.frontend.until_account(linked.account, "connected", within_s=30)
    await linked.talk_both_ways()


async def test_a_corrupt_auth_state_stops_that_account_alone(
    bridge: BridgeProcess, linked: Linked, stack: StackInfo
) -> None:
    bridge.stop()
    bridge.lose_disk()
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute(
            "update public.whatsapp_baileys_sessions set auth_state ="
            " jsonb_set(auth_state, '{data}', to_jsonb(reverse(auth_state->>'data')))"
            " where integration_account_id = %s",
            [linked.account],
        )
    tampered = sealed_state(stack, linked.account)
    bridge.start()
    row = await linked.frontend.until_account(linked.account, "error")
    assert row["status_reason"] == "auth_state_corrupt"
    assert row["status_detail"]
    assert sealed_state(stack, linked.account) == tampered

    command = await linked.frontend.insert_command(linked.account, "connect", {"method": "qr"})
    refused = await linked.frontend.until_command(command)
    assert refused["status"] == "failed", "a new pairing must not overwrite what may be rescued"
    assert sealed_state(stack, linked.account) == tampered
