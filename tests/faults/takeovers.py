"""How long accounts are away when their host dies, disk and all, and another one takes them over.

Two hosts with the lease that a bridge has if nobody sets one. Each time the one that holds more is
killed with all its engines, and replaced by a new host with an empty disk, which is the next to
take over. An account is back when a text that was written to it after the kill is a row; nobody
scans a QR code, so one that asks for it never comes back.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from tests.faults.world import World
from tests.fixtures.bridge import BridgeProcess

PROMISED_S = 15.0
SETTLED_S = 1.0
"""Between two kills no lease has moved for so long."""


async def measure(
    world: World, *, times: int, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Kill hosts until so many accounts were taken over; the summary of them."""
    dice = random.Random(seed)
    found: list[float] = []
    async with AsyncExitStack() as hosts:
        alive = [world.host, await hosts.enter_async_context(world.second_host())]
        while len(found) < times:
            victim, accounts = await _holder_of_most(world, alive)
            await anyio.sleep(dice.uniform(0, 3))  # anywhere between two renewals
            found += await _one(world, victim, accounts)
            alive.remove(victim)
            alive.append(await hosts.enter_async_context(world.second_host()))
            say(
                f"{len(found)}/{times}: {len(accounts)} accounts back after at most "
                f"{max(found[-len(accounts) :]):.1f} s"
            )
    away_s = sorted(found)
    return {
        "takeovers": len(found),
        "median_s": round(statistics.median(away_s), 1),
        "p95_s": round(away_s[int(len(away_s) * 0.95) - 1], 1),
        "longest_s": round(away_s[-1], 1),
        f"within_{PROMISED_S:.0f}_s": sum(each <= PROMISED_S for each in away_s),
    }


async def _holder_of_most(
    world: World, alive: list[BridgeProcess]
) -> tuple[BridgeProcess, list[str]]:
    """Once everything is connected and no lease moves."""
    hosts = {world.worker(host): host for host in alive}
    owners: dict[str, str | None] = {}
    since = time.monotonic()

    async def settled() -> bool:
        nonlocal owners, since
        now = await world.owners()
        if now != owners or not set(now.values()) <= set(hosts) or not await world.all_connected():
            owners, since = now, time.monotonic()
        return time.monotonic() - since >= SETTLED_S

    await world.until(settled, "all accounts are connected and stay where they are")
    [(most, _)] = Counter(owners.values()).most_common(1)
    assert most is not None
    return hosts[most], [account for account, owner in owners.items() if owner == most]


async def _one(world: World, victim: BridgeProcess, accounts: list[str]) -> list[float]:
    """Kill it, write to each of its accounts, and wait: how long each was away, in seconds."""
    killed_at = time.time()
    for pid in world.tree(victim):
        os.kill(pid, signal.SIGKILL)
    assert victim.process is not None
    await world.sync(victim.process.wait, 10)
    texts = []
    for account in accounts:
        shop = world.shop_of(account)
        texts.append(f"in {secrets.token_hex(8)}")
        send = partial(world.simulator.send_text, shop.customers[0], to=shop.number, text=texts[-1])
        await anyio.to_thread.run_sync(send)
    back_at: list[float] = []

    async def all_back() -> bool:
        nonlocal back_at
        rows = await world.rows(
            "select extract(epoch from min(created_at))::float8 as at from messages"
            " where not from_me and conteudo = any(%s) group by conteudo",
            texts,
        )
        back_at = [row["at"] for row in rows]
        return len(back_at) == len(accounts)

    await world.until(all_back, "every account is taken over")
    return [at - killed_at for at in back_at]
