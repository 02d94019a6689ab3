"""How much one `kill -9` of an engine costs while customers write as fast as they can.

In standard durability WhatsApp's acknowledgement leaves the library before the journal has the
event, so there is a window. This measures it.
"""

from __future__ import annotations

import random
import secrets
import statistics
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from tests.faults.injector import KILLED_IN_A_BURST
from tests.faults.ledger import Chat, Note, Way
from tests.faults.plan import Fault, Step
from tests.faults.run import until_ended
from tests.faults.world import World

TEXTS_A_CHAT = 40
SENDS_A_CHAT = 3


async def _nothing(_world: World, _dice: random.Random) -> str:
    return "the parent starts a new engine"


BURST = Fault("kill -9 of an engine in a burst", _nothing, may_lose=KILLED_IN_A_BURST)


async def measure(
    world: World, *, times: int, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Kill so many times; the sums of what came of it."""
    dice = random.Random(seed)
    killed_at: list[float] = []
    for number in range(times):
        killed_at.append(await _one(world, Step(number, BURST, dice.getrandbits(32))))
        verdict = world.ledger.judge(number, await world.evidence(), killed_at[-1])
        say(f"{number + 1}/{times}: in flight {verdict.in_flight}, lost {len(verdict.lost)}")
    evidence = await world.evidence()
    verdicts = [world.ledger.judge(number, evidence, at) for number, at in enumerate(killed_at)]
    lost = [len(verdict.lost) for verdict in verdicts]
    return {
        "kills": times,
        "written": sum(verdict.written for verdict in verdicts),
        "in_flight": sum(verdict.in_flight for verdict in verdicts),
        "lost": sum(lost),
        "lost_per_kill": round(statistics.mean(lost), 3),
        "most_at_once": max(lost),
        "kills_that_lost": sum(count > 0 for count in lost),
        "doubled": sum(len(verdict.doubled) for verdict in verdicts),
        "unknown": sum(len(verdict.unknown) for verdict in verdicts),
    }


async def _one(world: World, step: Step) -> float:
    dice = step.chance()
    await world.until(world.all_connected, "all accounts are connected")
    killed_at = time.time()
    async with anyio.create_task_group() as writers:
        for chat in world.chats:
            writers.start_soon(_burst, world, chat, step.number)
            writers.start_soon(_sends, world, chat, step.number)
        await _until_some_came(world, step.number)
        await anyio.sleep(dice.uniform(0, 0.6))
        victim = dice.choice(world.engines(world.host))
        killed_at = time.time()
        victim.kill()
    for account in world.accounts:  # an account whose engine dies every few seconds is held back
        await world.frontend.insert_command(account, "connect", {"method": "qr"})
    await until_ended(world, step)
    return killed_at


async def _until_some_came(world: World, step: int) -> None:
    async def came() -> bool:
        [row] = await world.rows(
            "select exists (select from messages where not from_me and conteudo like %s) as came",
            f"in {step}.%",
        )
        return bool(row["came"])

    await world.until(came, "the burst arrives")


async def _burst(world: World, chat: Chat, step: int) -> None:
    shop = world.shop_of(chat.account)
    for index in range(TEXTS_A_CHAT):
        text = f"in {step}.{index} {secrets.token_hex(4)}"
        world.ledger.notes.append(Note(chat, Way.IN, text, step, time.time()))
        await anyio.to_thread.run_sync(
            partial(world.simulator.send_text, chat.customer, to=shop.number, text=text)
        )


async def _sends(world: World, chat: Chat, step: int) -> None:
    for index in range(SENDS_A_CHAT):
        text = f"out {step}.{index} {secrets.token_hex(4)}"
        world.ledger.notes.append(Note(chat, Way.OUT, text, step, time.time()))
        await world.frontend.insert_command(
            chat.account,
            "send",
            {"to": f"+{chat.customer}", "type": "text", "text": text},
            idempotency_key=str(uuid.uuid4()),
        )
