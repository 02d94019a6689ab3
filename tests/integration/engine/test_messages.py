import time

import anyio
import pytest

from bridge import events as ev
from bridge.errors import CommandError
from bridge.ids import Jid, WhatsAppMessageId
from bridge.orders import AskGroup, MarkRead, Text
from tests.fixtures.simulator import fresh_number
from tests.integration.engine.driver import call, command, linked, phone_jid

pytestmark = pytest.mark.anyio


@pytest.fixture
async def drive(place, phones, vault, account, owner):
    async with place.host() as host, linked(host, account, vault, phones, owner) as session:
        yield session


async def test_a_direct_text_comes_in_with_both_addresses(drive, phones, owner, ana):
    sent = await call(phones.send_text, ana, owner, "olá 👋")

    event = await drive.text("olá 👋")

    assert event.id == sent
    assert event.sender.phone_jid == phone_jid(ana)
    assert event.sender.lid == event.chat
    assert event.sender.push_name == "Ana"
    assert event.peer == event.sender
    assert abs(event.sent_at - time.time()) < 60


async def test_the_other_person_sees_that_it_arrived(drive, phones, owner, ana):
    sent = await call(phones.send_text, ana, owner, "two ticks?")
    await drive.text("two ticks?")

    receipts = await call(phones.wait_for_receipt, ana, sent, "delivered")

    assert sent in receipts["ids"]


async def test_a_text_goes_out_and_its_receipts_come_back(drive, phones, ana):
    sent = await drive.send(ana, "hello")

    got = await call(phones.wait_for_text, ana, "hello")
    assert got["id"] == sent.id
    await drive.event(ev.ReceiptReceived, lambda r: r.kind == "delivered" and sent.id in r.ids)
    await call(phones.read, ana, [sent.id])
    read = await drive.event(ev.ReceiptReceived, lambda r: r.kind == "read")
    assert read.ids == [sent.id]
    order = [type(each.event) for each in drive.deliveries]
    named = order.index(ev.SendNamed)
    assert order.index(ev.SendStarted) < named < order.index(ev.SendSucceeded)
    assert drive.deliveries[named].event.id == sent.id
    assert order.count(ev.SendNamed) == 1


async def test_both_directions_in_a_group(drive, phones, owner, ana):
    group = await call(phones.add_group, "Sales", [owner, ana])
    made = await drive.event(ev.GroupNews)
    assert (made.chat, made.subject, made.created) == (group, "Sales", True)

    await call(phones.send_text, ana, group, "to all")
    event = await drive.text("to all")
    assert (event.chat, event.peer) == (group, None)
    assert event.sender.phone_jid == phone_jid(ana)
    assert drive.texts.count("to all") == 1
    assert "None" not in drive.texts  # the event that only brings the sender key

    await drive.send(group, "from us")
    assert (await call(phones.wait_for_text, ana, "from us"))["chat"] == group
    assert (await drive.session.ask(AskGroup(chat=Jid(group))))["subject"] == "Sales"
    assert await drive.session.ask(AskGroup(chat=Jid("120363000000000999@g.us"))) is None


async def test_what_the_own_phone_writes_is_from_me(drive, phones, owner, ana):
    await call(phones.send_text, owner, ana, "from my phone")

    event = await drive.text("from my phone")

    assert event.from_me
    assert event.peer.phone_jid == phone_jid(ana)
    assert event.sender.phone_jid == phone_jid(owner)


async def test_marking_as_read_reaches_the_other_person(drive, phones, owner, ana):
    sent = await call(phones.send_text, ana, owner, "read me")
    event = await drive.text("read me")

    await drive.session.ask(
        MarkRead(chat=phone_jid(ana), sender=event.sender.lid, ids=[sent], at=time.time())
    )

    await call(phones.wait_for_receipt, ana, sent, "read")


async def test_a_number_that_is_not_on_whatsapp_is_said_so(drive):
    failed = await drive.failed_send(fresh_number(), "nobody")

    assert failed.code == "recipient_not_on_whatsapp"
    assert not failed.retryable
    assert not failed.outcome_unknown


async def test_sends_keep_their_order(drive, phones, ana):
    async with anyio.create_task_group() as tasks:
        for index in range(20):
            tasks.start_soon(drive.send, ana, f"text {index}")
            await anyio.sleep(0)

    entries = await call(phones.inbox, ana)
    texts = [entry["text"] for entry in entries if entry["kind"] == "message"]
    assert texts == [f"text {index}" for index in range(20)]


async def test_without_a_connection_requests_fail_at_once_and_can_be_tried_again(
    drive, phones, owner, ana
):
    await call(phones.start_fault, "service_unavailable", number=owner, for_s=2)
    await drive.signal(ev.Disconnected)

    failed = await drive.failed_send(ana, "not now")
    assert (failed.code, failed.retryable) == ("not_connected", True)
    with pytest.raises(CommandError) as caught:
        await drive.session.ask(
            MarkRead(chat=phone_jid(ana), sender=phone_jid(ana), ids=[WhatsAppMessageId("X")], at=0)
        )
    assert caught.value.retryable

    await drive.until(drive.is_connected)
    await drive.send(ana, "now")


async def test_what_arrives_while_the_connection_is_away_comes_afterwards(
    drive, phones, owner, ana
):
    await call(phones.start_fault, "service_unavailable", number=owner, for_s=1)
    await drive.signal(ev.Disconnected)
    for index in range(5):
        await call(phones.send_text, ana, owner, f"missed {index}")

    await drive.text("missed 4")

    assert drive.texts == [f"missed {index}" for index in range(5)]


async def test_a_send_in_hand_is_answered_before_the_session_leaves(drive, phones, owner, ana):
    await drive.send(ana, "nothing has to be asked for the next one")
    await call(phones.start_fault, "slow", number=owner, delay_s=1.0)
    mine = command()
    await drive.session.send(mine, phone_jid(ana), Text(text="in hand"))
    await drive.event(ev.SendStarted, lambda each: each.command_id == mine)

    await drive.session.disconnect()

    await drive.event(ev.SendSucceeded, lambda each: each.command_id == mine)
