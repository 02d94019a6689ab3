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
from bridge.engine.backlog import Backlog
from bridge.engine.spool import MIN_FREE_BYTES, free_bytes
from bridge.errors import BridgeError, ConfigError, SupabaseUnavailable
from bridge.ids import WorkerId
from bridge.service.disk import make_private
from bridge.service.load import LATE_S
from bridge.supabase.answers import Check, Worker
from bridge.supabase.client import KeyRefused, SchemaMissing, SupabaseHttp
from bridge.supabase.doorbell import try_realtime
from bridge.supabase.rpc import BridgeRpc
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
    yield _journals(settings)
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


def _journals(settings: Settings) -> Finding:
    """What waits on this disk, and whether there is room for more."""
    try:
        waiting, free = Backlog(settings.state_dir).look(), free_bytes(settings.state_dir)
    except OSError as error:
        what = error.strerror or type(error).__name__
        return Finding(False, "journals can be read", f"WABRIDGE_STATE_DIR: {what}.")
    told = "no events wait on this disk"
    if waiting.events:
        told = (
            f"{waiting.events} events wait on this disk ({waiting.size_bytes / 1e6:.1f} MB, the "
            f"oldest for {waiting.oldest_s:.0f} s)"
        )
    told += f", {free / 1e6:.0f} MB are free"
    if free < MIN_FREE_BYTES:
        return Finding(
            False,
            told,
            f"The bridge takes nothing new from WhatsApp: make {MIN_FREE_BYTES / 1e6:.0f} MB free.",
        )
    if waiting.oldest_s > LATE_S:
        return Finding(
            False,
            told,
            "They are recorded when the bridge runs and Supabase answers; see the bridge's log. "
            "Do not delete WABRIDGE_STATE_DIR.",
        )
    return Finding(True, told)


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
        *(_host(worker, check.server_time) for worker in check.workers),
    ]


def _host(worker: Worker, now: datetime) -> Finding:
    """One that is alive, and what it says waits there; one that is silent is no fault by itself."""
    silent_s = max(0.0, (now - worker.last_seen_at).total_seconds())
    counts = {name: count for name, count in worker.load.items() if isinstance(count, int | float)}
    late = counts.get("oldest_spooled_s", 0) > LATE_S or (
        counts.get("disk_free_bytes", MIN_FREE_BYTES) < MIN_FREE_BYTES
    )
    return Finding(
        not late,
        f"host {worker.hostname or worker.id}, heard of {silent_s:.0f} s ago: "
        f"{counts.get('accounts', 0)} accounts, {counts.get('spooled_events', 0)} events wait",
        "Run `wabridge doctor` there: its events are late, or its disk is nearly full."
        if late
        else "",
    )


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
