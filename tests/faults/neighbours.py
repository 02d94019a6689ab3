"""How much later other accounts' messages come when one engine process dies.

Customers write to every account that runs in another engine than the one that is killed. What is
compared is the time from a customer's phone to the row, of texts written before the kill and of
texts written after it.
"""

from __future__ import annotations

import random
import secrets
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import psutil

from tests.faults.world import World

EVERY_S = 0.1
WRITES_S = 3.0
"""So long before the kill, and as long after it."""


async def measure(
    world: World, *, times: int, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Kill so many engines; milliseconds of the texts of the others, before and after."""
    dice = random.Random(seed)
    before: list[float] = []
    after: list[float] = []
    for number in range(times):
        earlier, later = await _one(world, dice)
        before += earlier
        after += later
        say(f"{number + 1}/{times}: {_figures(earlier)} before, {_figures(later)} after")
    return {"kills": times, "before_ms": _figures(before), "after_ms": _figures(after)}


def _figures(delays_ms: list[float]) -> dict[str, float]:
    ordered = sorted(delays_ms)
    return {
        "texts": len(ordered),
        "p50": round(statistics.median(ordered)),
        "p95": round(ordered[int(len(ordered) * 0.95)]),
        "max": round(ordered[-1]),
    }


async def _one(world: World, dice: random.Random) -> tuple[list[float], list[float]]:
    await world.until(lambda: _all_connected(world), "all accounts are connected")
    victim = dice.choice(world.engines(world.host))
    others = set(world.accounts) - _accounts_of(victim, world.accounts)
    written_at: dict[str, float] = {}
    async with anyio.create_task_group() as writers:
        for account in others:
            writers.start_soon(_write, world, account, written_at)
        await anyio.sleep(WRITES_S)
        killed_at = time.time()
        victim.kill()
    recorded_at: dict[str, float] = {}

    async def recorded() -> bool:
        rows = await world.rows(
            "select conteudo as text, extract(epoch from created_at)::float8 as at from messages"
            " where conteudo = any(%s)",
            [*written_at],
        )
        recorded_at.update({row["text"]: row["at"] for row in rows})
        return len(recorded_at) == len(written_at)

    await world.until(recorded, "all texts are rows")
    found: tuple[list[float], list[float]] = ([], [])
    for text, at in written_at.items():
        found[at >= killed_at].append((recorded_at[text] - at) * 1000)
    return found


async def _all_connected(world: World) -> bool:
    for account, face in (await world.faces()).items():
        if face["status"] == "error":  # its engine dies so often that it waits for a person
            await world.frontend.insert_command(account, "connect", {"method": "qr"})
    return await world.all_connected()


def _accounts_of(engine: psutil.Process, accounts: Iterable[str]) -> set[str]:
    """Those whose journals it has open."""
    paths = " ".join(file.path for file in engine.open_files())
    return {account for account in accounts if account in paths}


async def _write(world: World, account: str, written_at: dict[str, float]) -> None:
    shop = world.shop_of(account)
    until = time.monotonic() + 2 * WRITES_S
    while time.monotonic() < until:
        text = f"in {secrets.token_hex(8)}"
        written_at[text] = time.time()
        send = partial(world.simulator.send_text, shop.customers[0], to=shop.number, text=text)
        await anyio.to_thread.run_sync(send)
        await anyio.sleep(EVERY_S)
