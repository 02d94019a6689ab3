"""Presence of this host: a line in `bridge_workers` that says it lives and what it carries."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import anyio
from loguru import logger

from bridge.errors import BridgeError, SupabaseUnavailable
from bridge.supabase.answers import Registered
from bridge.supabase.client import WorkerUnknown

EVERY_S = 10.0


class KnowsWorkers(Protocol):
    """What is needed of the database."""

    async def heartbeat(self, load: dict[str, Any]) -> None:
        """Say that this worker lives."""

    async def register_worker(self, info: dict[str, Any]) -> Registered:
        """Be known."""


async def keep_beating(
    rpc: KnowsWorkers, info: dict[str, Any], load: Callable[[], Awaitable[dict[str, Any]]]
) -> None:
    """Until cancelled. A database that forgot this worker learns of it again.

    Args:
        rpc: the database.
        info: who this worker is.
        load: what it carries now; may tell the database of trouble.
    """
    while True:
        try:
            try:
                await rpc.heartbeat(await load())
            except WorkerUnknown:
                logger.warning("The database forgot this worker; it registers again")
                await rpc.register_worker(info)
        except SupabaseUnavailable:
            pass  # the lease loop tells of it
        except BridgeError as fault:
            logger.error("The heartbeat was refused", code=fault.code, reason=fault.sentence)
        await anyio.sleep(EVERY_S * random.uniform(0.8, 1.2))  # noqa: S311
