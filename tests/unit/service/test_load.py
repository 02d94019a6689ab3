"""The operator sees what waits; trouble with the disk is told once, as soon as it can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.engine.backlog import Waiting
from bridge.engine.spool import MIN_FREE_BYTES
from bridge.errors import SupabaseUnavailable
from bridge.ids import AccountId
from bridge.service import load as module
from bridge.service.load import LATE_S, HostLoad

pytestmark = pytest.mark.anyio


class FakeReports:
    def __init__(self) -> None:
        self.away = False
        self.codes: list[str] = []

    async def report(
        self,
        account: AccountId | None,
        level: str,
        code: str,
        message: str,
        context: dict[str, Any] | None = None,
    ) -> None:
        assert (account, level) == (None, "error")
        assert message
        if self.away:
            raise SupabaseUnavailable("away")
        self.codes.append(code)


class Disk:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 10 * MIN_FREE_BYTES
        self.waiting = Waiting()
        monkeypatch.setattr(module, "free_bytes", lambda _: self.free)
        monkeypatch.setattr("bridge.engine.backlog.Backlog.look", lambda _: self.waiting)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_counts_of_the_disk_stand_beside_those_of_accounts(
    disk: Disk, tmp_path: Path
) -> None:
    disk.waiting = Waiting(events=7, size_bytes=700, oldest_s=12.4)
    load = await HostLoad(FakeReports(), tmp_path, lambda: {"accounts": 2})()
    assert load == {
        "accounts": 2,
        "spooled_events": 7,
        "spooled_bytes": 700,
        "oldest_spooled_s": 12,
        "disk_free_bytes": disk.free,
    }


async def test_a_disk_that_cannot_be_read_keeps_the_host_alive(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Path) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module, "free_bytes", broken)
    assert await HostLoad(FakeReports(), tmp_path, lambda: {"accounts": 2})() == {"accounts": 2}


async def test_a_nearly_full_disk_is_told_once_until_it_is_over(disk: Disk, tmp_path: Path) -> None:
    reports = FakeReports()
    load = HostLoad(reports, tmp_path, dict)
    for free in (MIN_FREE_BYTES, MIN_FREE_BYTES - 1, 0, MIN_FREE_BYTES, 0):
        disk.free = free
        await load()
    assert reports.codes == ["disk_full", "disk_full"]


async def test_it_is_told_when_supabase_is_back(disk: Disk, tmp_path: Path) -> None:
    reports = FakeReports()
    load = HostLoad(reports, tmp_path, dict)
    disk.free, reports.away = 0, True
    for _ in range(2):
        with pytest.raises(SupabaseUnavailable):
            await load()
    reports.away = False
    for _ in range(2):
        await load()
    assert reports.codes == ["disk_full"]


async def test_events_that_wait_for_long_are_told(disk: Disk, tmp_path: Path) -> None:
    reports = FakeReports()
    load = HostLoad(reports, tmp_path, dict)
    for oldest_s in (LATE_S, LATE_S + 1, LATE_S + 9):
        disk.waiting = Waiting(events=1, size_bytes=10, oldest_s=oldest_s)
        await load()
    assert reports.codes == ["events_waiting"]
