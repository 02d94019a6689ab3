"""The main job: rows in, WhatsApp out, rows back."""

from __future__ import annotations

from typing import cast

import anyio
import pytest
from realtime import RealtimePostgresChangesListenEvent

from bridge.sandbox.stack import StackInfo
from tests.acceptance.conftest import Frontend, Linked, Row, link, until
from tests.fixtures.bridge import BridgeProcess
from tests.fixtures.simulator import Simulator, fresh_number

pytestmark = pytest.mark.anyio


class Feed:
    """What Realtime delivered to a frontend, in order."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str, Row]] = []
        self.arrived = anyio.Event()

    async def subscribe(self, frontend: Frontend, *tables: str) -> None:
        channel = frontend.client.channel("feed")
        live = anyio.Event()
        for table in tables:
            channel.on_postgres_changes(
                RealtimePostgresChangesListenEvent.All,
                schema="public",
                table=table,
                callback=lambda c: self._take(cast("Row", c["data"])),
            )
        channel.on_system(lambda _: live.set())
        await channel.subscribe()
        with anyio.fail_after(40):
            await live.wait()

    def _take(self, data: Row) -> None:
        self.changes.append((data["table"], data["type"], data["record"]))
        self.arrived.set()
        self.arrived = anyio.Event()

    async def until(self, table: str, **expected: object) -> Row:
        with anyio.fail_after(40):
            while True:
                for name, _, record in self.changes:
                    if name == table and all(record.get(k) == v for k, v in expected.items()):
                        return record
                await self.arrived.wait()


async def test_qr_status_messages_and_receipts_arrive_over_realtime(
    bridge: BridgeProcess, frontend: Frontend, simulator: Simulator
) -> None:
    feed = Feed()
    await feed.subscribe(frontend, "integration_accounts", "messages", "commands", "conversations")
    linked = await link(frontend, simulator)

    shown = await feed.until("integration_accounts", status="qr_required")
    assert shown["last_qr"].startswith("data:image/png;base64,")
    assert shown["qr_expires_at"] is not None
    connected = await feed.until("integration_accounts", status="connected")
    assert connected["numero"].lstrip("+") == linked.number
    assert connected["last_qr"] is None

    simulator.send_text(linked.customer, to=linked.number, text="Bom dia!")
    incoming = await feed.until("messages", conteudo="Bom dia!")
    assert incoming["from_me"] is False
    assert incoming["sender_nome"] == "Maria"

    command = await linked.frontend.send_text(linked.account, f"+{linked.customer}", "Olá, Maria!")
    assert command["status"] == "done"
    sent = await feed.until("messages", command_id=command["id"], status="sent")
    assert command["result"] == {
        "message_id": sent["id"],
        "whatsapp_message_id": sent["whatsapp_message_id"],
        "timestamp": command["result"]["timestamp"],
    }
    await linked.until_customer_got("Olá, Maria!")
    await feed.until("messages", command_id=command["id"], status="delivered")
    simulator.read(linked.customer, [sent["whatsapp_message_id"]])
    await feed.until("messages", command_id=command["id"], status="read")


async def test_both_directions_are_one_conversation_of_one_lead(linked: Linked) -> None:
    await linked.talk_both_ways()
    await linked.talk_both_ways()

    conversation = await linked.frontend.row("conversations", integration_account_id=linked.account)
    lead = await linked.frontend.row("leads", workspace_id=linked.frontend.tenant.workspace_id)
    assert conversation["lead_id"] == lead["id"]
    assert conversation["kind"] == "direct"
    assert conversation["status"] == "open"
    assert conversation["nao_lidas"] == 2
    assert lead["push_name"] == "Maria"
    assert lead["telefone"].lstrip("+") == linked.customer
    messages = await linked.frontend.rows("messages", conversation_id=conversation["id"])
    assert [m["from_me"] for m in sorted(messages, key=lambda m: m["seq"])] == [
        False,
        True,
        False,
        True,
    ]


async def test_the_first_word_to_a_number_gets_its_receipts(linked: Linked) -> None:
    """WhatsApp answers from the LID of somebody who was only known by number."""
    command = await linked.frontend.send_text(linked.account, f"+{linked.customer}", "Olá?")
    row = await until(
        lambda: linked.frontend.row("messages", command_id=command["id"]),
        lambda row: row["status"] == "delivered",
    )
    linked.simulator.read(linked.customer, [row["whatsapp_message_id"]])
    await until(
        lambda: linked.frontend.row("messages", command_id=command["id"]),
        lambda row: row["status"] == "read",
    )
    lead = await linked.frontend.row("leads", workspace_id=linked.frontend.tenant.workspace_id)
    assert lead["telefone"].lstrip("+") == linked.customer
    assert lead["lid"] is not None


async def test_mark_read_clears_the_count_and_tells_the_sender(linked: Linked) -> None:
    sent = linked.simulator.send_text(linked.customer, to=linked.number, text="Você viu?")
    row = await linked.frontend.until_message(conteudo="Você viu?")
    command = await linked.frontend.insert_command(
        linked.account, "mark_read", {"conversation_id": row["conversation_id"]}
    )
    done = await linked.frontend.until_command(command)
    assert done["status"] == "done"
    conversation = await linked.frontend.row("conversations", id=row["conversation_id"])
    assert conversation["nao_lidas"] == 0
    linked.simulator.wait_for_receipt(linked.customer, sent, "read")


async def test_an_account_links_by_pairing_code(
    bridge: BridgeProcess, frontend: Frontend, simulator: Simulator
) -> None:
    number = fresh_number()
    simulator.add_phone(number, "Shop")
    account = await frontend.insert_account()
    command = await frontend.insert_command(
        account, "connect", {"method": "code", "phone": f"+{number}"}
    )
    row = await until(
        lambda: frontend.row("integration_accounts", id=account), lambda row: row["pairing_code"]
    )
    assert (await frontend.until_command(command))["status"] == "done"
    simulator.link_code(number, row["pairing_code"])
    connected = await frontend.until_account(account, "connected")
    assert connected["pairing_code"] is None


async def test_groups_carry_their_senders(linked: Linked) -> None:
    other = fresh_number()
    linked.simulator.add_phone(other, "João")
    group = linked.simulator.add_group("Entregas", [linked.number, linked.customer, other])
    linked.simulator.send_text(other, to=group, text="Cheguei")
    linked.simulator.send_text(linked.customer, to=group, text="Ótimo")

    first = await linked.frontend.until_message(conteudo="Cheguei")
    second = await linked.frontend.until_message(conteudo="Ótimo")
    assert (first["sender_nome"], second["sender_nome"]) == ("João", "Maria")
    assert first["sender_lead_id"] != second["sender_lead_id"]
    conversation = await until(
        lambda: linked.frontend.row("conversations", id=first["conversation_id"]),
        lambda row: row["nome"] == "Entregas",
    )
    assert (conversation["kind"], conversation["lead_id"]) == ("group", None)
    assert second["conversation_id"] == conversation["id"]

    command = await linked.frontend.send_text(
        linked.account, conversation["id"], "Obrigada a todos"
    )
    assert command["status"] == "done"
    for person in (linked.customer, other):
        linked.simulator.wait_for_text(person, "Obrigada a todos")


async def test_a_second_tenant_sees_nothing_over_rest_or_realtime(
    bridge: BridgeProcess,
    frontend: Frontend,
    stranger: Frontend,
    simulator: Simulator,
    stack: StackInfo,
) -> None:
    tables = ("integration_accounts", "messages", "commands", "conversations")
    own, foreign = Feed(), Feed()
    await own.subscribe(frontend, *tables)
    await foreign.subscribe(stranger, *tables)
    linked = await link(frontend, simulator)
    await linked.talk_both_ways()
    await own.until("messages", from_me=True, status="delivered")

    assert foreign.changes == []
    for table in (*tables, "leads", "attachments", "message_receipts", "whatsapp_baileys_events"):
        assert await stranger.rows(table) == [], table
    refused = (
        await stranger.client.table("integration_accounts")
        .update({"nome": "mine"})
        .eq("id", linked.account)
        .execute()
    )
    assert refused.data == []

    # the stranger's own feed works: silence above was not deafness
    account = await stranger.insert_account("theirs")
    await foreign.until("integration_accounts", id=account)


async def test_disconnect_keeps_the_credentials(linked: Linked) -> None:
    command = await linked.frontend.insert_command(linked.account, "disconnect", {})
    assert (await linked.frontend.until_command(command))["status"] == "done"
    row = await linked.frontend.until_account(linked.account, "disconnected")
    assert row["next_action"] == "none"

    failed = await linked.frontend.send_text(linked.account, f"+{linked.customer}", "lost?")
    assert failed["status"] == "failed"
    assert "connect" in failed["error_message"]

    again = await linked.frontend.insert_command(linked.account, "connect", {"method": "qr"})
    assert (await linked.frontend.until_command(again))["result"] == {"status": "connected"}
    await linked.talk_both_ways()


async def test_logout_unlinks_and_the_next_connect_asks_for_a_qr(linked: Linked) -> None:
    command = await linked.frontend.insert_command(linked.account, "logout", {})
    assert (await linked.frontend.until_command(command))["status"] == "done"
    await linked.frontend.until_account(linked.account, "logged_out")
    assert linked.simulator.companions(linked.number) == []

    again = await linked.frontend.insert_command(linked.account, "connect", {"method": "qr"})
    assert (await linked.frontend.until_command(again))["result"] == {"status": "qr_required"}


async def test_unlinking_on_the_phone_is_told_as_such(linked: Linked) -> None:
    linked.simulator.unlink(linked.number)
    row = await linked.frontend.until_account(linked.account, "logged_out")
    assert row["next_action"] == "scan_qr"
    assert row["status_detail"]


async def test_what_arrives_while_disconnected_is_delivered_on_return(linked: Linked) -> None:
    command = await linked.frontend.insert_command(linked.account, "disconnect", {})
    await linked.frontend.until_command(command)
    texts = [f"while away {n}" for n in range(20)]
    for text in texts:
        linked.simulator.send_text(linked.customer, to=linked.number, text=text)
    await linked.frontend.insert_command(linked.account, "connect", {"method": "qr"})
    rows = await until(
        lambda: linked.frontend.rows("messages", integration_account_id=linked.account),
        lambda rows: len(rows) >= len(texts),
    )
    assert [r["conteudo"] for r in sorted(rows, key=lambda r: r["seq"])] == texts
