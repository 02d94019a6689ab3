"""What the database says is ours, asked every few seconds.

A lease is counted from *before* the request that renewed it, so this host stops believing in it
before the database does. Nothing is done here about leases that cannot be renewed in time: each
engine closes its sessions by itself when it is not told of a renewal.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Protocol

import anyio
from loguru import logger

from bridge.bell import Bell
from bridge.errors import SupabaseUnavailable
from bridge.ids import AccountId
from bridge.supabase.answers import Lease
from bridge.supabase.client import RequestRefused, WorkerUnknown

# However often somebody rings, the database is asked no more often than this.
MIN_PAUSE_S = 0.1
# So much of a lease one request may take. A renewal begins with most of it left: after one that
# hangs, there is time for another. It is also how a host learns what another one gave back.
PATIENCE = 0.4


class HoldsLeases(Protocol):
    """What is needed of the database."""

    async def hold_leases(self, capacity: int, lease_s: int) -> list[Lease]:
        """Renew, take and give back; all held now."""


class LeaseKeeper:
    """Asks on a timer and when rung.

    Args:
        bell: a command may be there for an account that nobody holds.
        apply: told all leases that are held, and until when (monotonic seconds).
    """

    def __init__(
        self,
        rpc: HoldsLeases,
        *,
        bell: Bell,
        capacity: int,
        lease_s: int,
        apply: Callable[[list[Lease], float], None],
    ) -> None:
        self._rpc = rpc
        self._capacity = capacity
        self._lease_s = lease_s
        self._apply = apply
        self._bell = bell
        self.held: list[AccountId] = []

    def take_no_more(self) -> None:
        """This host stops: what it holds is renewed, others share what is free."""
        self._capacity = 0

    async def keep(self) -> None:
        """Until cancelled. Supabase being away is waited out."""
        failures = 0
        renewed_at = time.monotonic()
        while True:
            asked_at = time.monotonic()
            self._bell.hush()
            # After so long an absence others lost their leases as well, and their journals have
            # what the database has not: everybody comes for its own accounts first.
            was_away = asked_at - renewed_at > self._lease_s
            capacity = min(self._capacity, len(self.held)) if was_away else self._capacity
            try:
                leases = await self._ask(capacity)
            except (SupabaseUnavailable, RequestRefused, WorkerUnknown) as fault:
                failures += 1
                if failures in (1, 10) or failures % 100 == 0:
                    logger.warning("Leases could not be renewed", reason=fault.sentence)
            else:
                failures = 0
                renewed_at = asked_at
                self.held = [lease.account_id for lease in leases]
                self._apply(leases, asked_at + self._lease_s)
            await anyio.sleep(MIN_PAUSE_S)
            part = random.uniform(0.02, 0.1) if failures else random.uniform(0.1, 0.14)  # noqa: S311
            await self._bell.wait(self._lease_s * part)

    async def _ask(self, capacity: int) -> list[Lease]:
        with anyio.move_on_after(self._lease_s * PATIENCE):
            return await self._rpc.hold_leases(capacity, self._lease_s)
        raise SupabaseUnavailable("Supabase took too long to renew the leases.")
