"""Leases are renewed in time, although a request hangs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from bridge.accounts.leases import LeaseKeeper
from bridge.bell import Bell
from bridge.errors import SupabaseUnavailable
from bridge.supabase.answers import Lease

pytestmark = pytest.mark.anyio


class FakeLeases:
    """The first answer never comes, the second one is a fault."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def hold_leases(self, capacity: int, lease_s: int) -> list[Lease]:
        self.asked.append(anyio.current_time())
        if len(self.asked) == 1:
            await anyio.sleep_forever()
        if len(self.asked) == 2:
            raise SupabaseUnavailable("away")
        return []


async def test_a_request_that_hangs_costs_no_lease() -> None:
    rpc, renewed, lease_s = FakeLeases(), anyio.Event(), 6
    keeper = LeaseKeeper(
        rpc, bell=Bell(), capacity=1, lease_s=lease_s, apply=lambda _leases, _until: renewed.set()
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keeper.keep)
        # a renewal begins when a third of the lease is over, at the latest; so long a lease that a
        # busy machine does not decide
        with anyio.move_on_after(lease_s * 0.66):
            await renewed.wait()
        tasks.cancel_scope.cancel()
    assert renewed.is_set()


class Capacities:
    """Three accounts are held; then the database is away for a while."""

    def __init__(self, away_s: float) -> None:
        self.away_s = away_s
        self.asked: list[int] = []
        self.began: float | None = None
        self.enough = anyio.Event()

    async def hold_leases(self, capacity: int, lease_s: int) -> list[Lease]:
        now = anyio.current_time()
        if self.asked:
            self.began = self.began or now
            if now < self.began + self.away_s:
                raise SupabaseUnavailable("away")
        self.asked.append(capacity)
        if len(self.asked) == 3:
            self.enough.set()
        return [LEASE, LEASE]


LEASE = cast("Lease", SimpleNamespace(account_id="account"))


@pytest.mark.parametrize(("away_s", "capacities"), [(1.3, [9, 2, 9]), (0.2, [9, 9, 9])])
async def test_after_an_absence_a_host_comes_for_its_own_accounts_first(
    away_s: float, capacities: list[int]
) -> None:
    """Who holds the others was away too, and its journal has what the database has not."""
    rpc = Capacities(away_s)
    keeper = LeaseKeeper(
        rpc, bell=Bell(), capacity=9, lease_s=1, apply=lambda _leases, _until: None
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keeper.keep)
        with anyio.fail_after(20):
            await rpc.enough.wait()
        tasks.cancel_scope.cancel()
    assert rpc.asked == capacities
