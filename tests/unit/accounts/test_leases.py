"""Leases are renewed in time, although a request hangs."""

from __future__ import annotations

import anyio
import pytest

from bridge.accounts.leases import LeaseKeeper
from bridge.errors import SupabaseUnavailable
from bridge.supabase.rpc import Lease

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
        rpc, capacity=1, lease_s=lease_s, apply=lambda _leases, _until: renewed.set()
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keeper.keep)
        # a renewal begins when a third of the lease is over, at the latest; so long a lease that a
        # busy machine does not decide
        with anyio.move_on_after(lease_s * 0.66):
            await renewed.wait()
        tasks.cancel_scope.cancel()
    assert renewed.is_set()
