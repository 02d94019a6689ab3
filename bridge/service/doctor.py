"""`wabridge doctor`: one finding a check, each with what to do.

Checks go from the ground up; one that cannot be made because an earlier one failed is left out.
Nothing is changed anywhere.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import anyio
import anyio.to_thread

from bridge.config import VARIABLES, Settings, read_settings
from bridge.errors import BridgeError, ConfigError, SupabaseUnavailable
from bridge.ids import WorkerId
from bridge.service.disk import make_private
from bridge.supabase.client import KeyRefused, SchemaMissing, SupabaseHttp
from bridge.supabase.doorbell import try_realtime
from bridge.supabase.rpc import BridgeRpc, Check
from bridge.vault import Vault

CLOCK_SKEW_S = 5.0
LIBRARY_LOAD_S = 60.0
NOBODY = WorkerId("00000000-0000-0000-0000-000000000000")

# Loads what an engine process loads, in a process of its own: a library that is missing or broken
# may end the process that loads it.
_LOAD_ENGINE = "import bridge.engine.child as child; child.load_library()"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check.

    Attributes:
        advice: what to do; empty when all is well.
    """

    good: bool
    what: str
    advice: str = ""


async def examine(variables: Mapping[str, str]) -> AsyncIterator[Finding]:
    """All checks, in order."""
    try:
        settings = read_settings(variables)
        vault = Vault.from_secret(settings.auth_secret)
    except ConfigError as fault:
        yield Finding(False, "configuration", fault.sentence)
        return
    given = sum(1 for variable in VARIABLES if variables.get(variable.name))
    yield Finding(True, f"configuration: {given} variables set, the others have defaults")
    for finding in _directories(settings):
        yield finding
    yield await _engine_library()
    async with SupabaseHttp(settings.supabase_url, settings.service_key) as http:
        if not await http.reachable():
            yield Finding(
                False,
                "Supabase is reachable",
                f"Nothing answers at {settings.supabase_url}: check SUPABASE_URL and the network.",
            )
            return
        yield Finding(True, "Supabase is reachable")
        try:
            check = await BridgeRpc(http, NOBODY).check()
        except KeyRefused as fault:
            yield Finding(False, "key is accepted", fault.sentence)
            return
        except SchemaMissing as fault:
            yield Finding(True, "key is accepted")
            yield Finding(False, "migrations are applied", fault.sentence)
            return
        except SupabaseUnavailable as fault:
            yield Finding(False, "Supabase answers", f"{fault.sentence} Try again later.")
            return
        except BridgeError as fault:
            yield Finding(False, "migrations are applied", fault.sentence)
            return
    for finding in _database(check, vault):
        yield finding
    yield await _realtime(settings)


def _directories(settings: Settings) -> list[Finding]:
    findings = []
    for directory, name in (
        (settings.state_dir, "WABRIDGE_STATE_DIR"),
        (settings.session_dir, "WABRIDGE_SESSION_DIR"),
    ):
        try:
            make_private(directory, name)
        except ConfigError as fault:
            findings.append(Finding(False, f"{name} is writable", fault.sentence))
        else:
            findings.append(Finding(True, f"{name} is writable: {directory}"))
    return findings


async def _engine_library() -> Finding:
    what = "engine library and libmagic load"
    try:
        done = await anyio.to_thread.run_sync(
            lambda: subprocess.run(
                [sys.executable, "-c", _LOAD_ENGINE],
                capture_output=True,
                timeout=LIBRARY_LOAD_S,
                check=False,
            )
        )
    except subprocess.TimeoutExpired:
        return Finding(False, what, f"It takes more than {LIBRARY_LOAD_S:g} s: check the machine.")
    if done.returncode == 0:
        return Finding(True, what)
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it crashed"]
    return Finding(
        False, what, f"Install the locked dependencies again (`make setup`). It says: {last[0]}"
    )


def _database(check: Check, vault: Vault) -> list[Finding]:
    skew_s = abs((datetime.now(UTC) - check.server_time).total_seconds())
    unknown = sorted(set(check.sealed_key_ids) - set(vault.key_ids))
    return [
        Finding(True, "key is accepted"),
        Finding(True, f"migrations are applied: schema {check.schema_version}"),
        Finding(
            skew_s <= CLOCK_SKEW_S,
            f"clock agrees with the database's (difference {skew_s:.1f} s)",
            "" if skew_s <= CLOCK_SKEW_S else "Set this machine's clock (NTP).",
        ),
        Finding(
            check.bucket,
            "Storage bucket whatsapp-media exists",
            "" if check.bucket else "Apply the migrations again with `supabase db push`.",
        ),
        Finding(
            not check.publication_missing,
            "tables are in the publication supabase_realtime",
            ""
            if not check.publication_missing
            else "Add these tables to it: " + ", ".join(check.publication_missing) + ".",
        ),
        Finding(
            not unknown,
            f"secret opens the saved sessions ({check.accounts} accounts)",
            ""
            if not unknown
            else f"Sessions are sealed with keys that BAILEYS_AUTH_SECRET does not hold "
            f"({', '.join(unknown)}): add the old secret behind the new one.",
        ),
    ]


async def _realtime(settings: Settings) -> Finding:
    if not settings.realtime:
        return Finding(True, "Realtime is switched off (WABRIDGE_REALTIME); commands are polled")
    problem = await try_realtime(settings.supabase_url, settings.service_key)
    return Finding(
        problem is None,
        "Realtime delivers",
        ""
        if problem is None
        else f"{problem} The bridge works without it, slower; see the project's Realtime settings.",
    )
