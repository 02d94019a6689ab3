"""What `wabridge doctor` says of events that wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.config import Settings, read_settings
from bridge.engine.backlog import Waiting
from bridge.engine.spool import MIN_FREE_BYTES
from bridge.ids import WorkerId
from bridge.service import doctor
from bridge.service.load import LATE_S
from bridge.supabase.answers import Worker

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(
        {
            "SUPABASE_URL": "http://127.0.0.1:1",
            "SUPABASE_SERVICE_ROLE_KEY": "sb_secret_x",
            "BAILEYS_AUTH_SECRET": "x" * 48,
            "WABRIDGE_STATE_DIR": str(tmp_path),
        }
    )


@pytest.mark.parametrize(
    ("oldest_s", "free", "good"),
    [
        (LATE_S, MIN_FREE_BYTES, True),
        (LATE_S + 1, MIN_FREE_BYTES, False),
        (0, MIN_FREE_BYTES - 1, False),
    ],
)
def test_journals_of_this_disk(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, oldest_s: float, free: int, good: bool
) -> None:
    waiting = Waiting(events=3, size_bytes=2_000_000, oldest_s=oldest_s)
    monkeypatch.setattr("bridge.engine.backlog.Backlog.look", lambda _: waiting)
    monkeypatch.setattr(doctor, "free_bytes", lambda _: free)
    finding = doctor._journals(settings)
    assert (finding.good, bool(finding.advice)) == (good, not good)
    assert "3 events wait on this disk (2.0 MB" in finding.what


@pytest.mark.parametrize(
    ("load", "good"),
    [
        ({}, True),
        ({"accounts": 2, "spooled_events": 9, "oldest_spooled_s": 10}, True),
        ({"accounts": 2, "spooled_events": 9, "oldest_spooled_s": LATE_S + 1}, False),
        ({"disk_free_bytes": MIN_FREE_BYTES - 1}, False),
    ],
)
def test_what_other_hosts_told(load: dict[str, Any], good: bool) -> None:
    seen_at = NOW - timedelta(seconds=7)
    worker = Worker(id=WorkerId("w"), hostname="alfa", last_seen_at=seen_at, load=load)
    finding = doctor._host(worker, NOW)
    assert (finding.good, bool(finding.advice)) == (good, not good)
    assert finding.what.startswith("host alfa, heard of 7 s ago")
    assert f"{load.get('spooled_events', 0)} events wait" in finding.what
