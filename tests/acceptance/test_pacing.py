"""The pace of sending, through the whole service: it holds messages back, says why, and lets go."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from bridge.sandbox.pool import connected
from bridge.sandbox.stack import StackInfo
from tests.acceptance.conftest import Frontend, Linked, Row, link, until
from tests.fixtures.bridge import BridgeProcess
from tests.fixtures.simulator import Simulator, fresh_number

pytestmark = pytest.mark.anyio

PACE: dict[str, Any] = {"messages_per_minute": 2, "cold_gap_s": 0}


async def ask(linked: Linked, text: str, to: str | None = None) -> str:
    payload = {"to": f"+{to or linked.customer}", "type": "text", "text": text}
    return await linked.frontend.insert_command(linked.account, "send", payload)


async def waits(linked: Linked, command: str, code: str) -> Row:
    row = await until(
        lambda: linked.frontend.row("commands", id=command), lambda row: row["wait_code"] == code
    )
    assert row["status"] == "pending", row
    return row


async def is_done(linked: Linked, command: str) -> None:
    row = await linked.frontend.until_command(command)
    assert (row["status"], row["attempts"]) == ("done", 1), row


async def change(linked: Linked, **columns: object) -> None:
    table = linked.frontend.client.table("integration_accounts")
    await table.update(columns).eq("id", linked.account).execute()


async def test_messages_wait_at_each_limit_say_why_and_go_on(
    bridge: BridgeProcess, frontend: Frontend, simulator: Simulator, stack: StackInfo
) -> None:
    linked = await link(frontend, simulator, **PACE)
    await linked.talk_both_ways()  # the customer wrote: everything to them is an answer

    # two a minute: the next one waits, and the view says so, until somebody allows more
    await is_done(linked, await ask(linked, "second of this minute"))
    third = await ask(linked, "third of this minute")
    await waits(linked, third, "messages_per_minute")
    pace = await frontend.row("whatsapp_account_pacing", integration_account_id=linked.account)
    assert (pace["messages_left_this_minute"], pace["waits_code"]) == (0, "messages_per_minute")
    assert pace["next_command_id"] == third
    await change(linked, settings=PACE | {"messages_per_minute": 100})
    await is_done(linked, third)

    # the kill switch
    await change(linked, sending_paused=True)
    held = await ask(linked, "held by the switch")
    await waits(linked, held, "account_paused")
    await change(linked, sending_paused=False)
    await is_done(linked, held)

    # WhatsApp's time-lock: first messages wait for its end, answers go on
    stranger, another = fresh_number(), fresh_number()
    for number in (stranger, another):
        simulator.add_phone(number, "Rita")
    simulator.start_fault("timelock", number=linked.number)
    first = await ask(linked, "nice to meet you", stranger)
    row = await waits(linked, first, "reachout_timelock")
    assert (row["error_code"], row["attempts"]) == ("reachout_timelock", 0)
    second = await ask(linked, "and you", another)
    await waits(linked, second, "reachout_timelock")
    account = await frontend.row("integration_accounts", id=linked.account)
    assert account["timelock_until"] == row["run_at"]
    await is_done(linked, await ask(linked, "an answer meanwhile"))
    assert simulator.inbox(stranger) == simulator.inbox(another) == []
    simulator.clear_faults()
    async with connected(stack.database_url) as owner:
        await owner.execute(
            "update integration_accounts set timelock_until = now() where id = %s",
            [linked.account],
        )
    for command, number, text in (
        (first, stranger, "nice to meet you"),
        (second, another, "and you"),
    ):
        await is_done(linked, command)
        await anyio.to_thread.run_sync(simulator.wait_for_text, number, text)
