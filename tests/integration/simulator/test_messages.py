"""Messages, receipts and media between the real engine and simulated phones."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator

import pytest

from tests.fixtures.simulator import fresh_number, own_simulator
from tests.integration.simulator.conftest import Engines, Linked, eventually

READ = 4


@pytest.fixture(scope="module")
def shop() -> Iterator[Linked]:
    """One linked engine for all tests here, because linking takes longer than a test."""
    made = Engines()
    with own_simulator() as simulator:
        yield Linked(made.new(simulator))
        made.close()


@pytest.fixture
def linked(shop: Linked) -> Linked:
    """The shop with a customer of this test's own."""
    return shop.with_another_customer()


def test_texts_go_both_ways(linked: Linked) -> None:
    simulator, engine = linked.simulator, linked.engine
    incoming = simulator.send_text(linked.customer, linked.shop, "Bom dia!")

    event = engine.wait_text("Bom dia!")
    sent = engine.ask("send_text", to=linked.customer, text="Olá, Maria")

    lid = simulator.phone(linked.customer)["lid"]
    assert (event["id"], event["chat"], event["push_name"]) == (incoming, lid, "Maria")
    assert event["sender_alt"] == linked.customer
    got = simulator.wait_for_text(linked.customer, "Olá, Maria")
    assert (got["id"], got["sender_number"], got["from_me"]) == (sent, linked.shop, False)
    mirrored = simulator.wait_for_text(linked.shop, "Olá, Maria")
    assert mirrored["from_me"]


def test_what_the_own_phone_writes_reaches_the_engine(linked: Linked) -> None:
    linked.simulator.send_text(linked.shop, linked.customer, "typed on the phone")

    event = linked.engine.wait_text("typed on the phone")

    assert event["from_me"]
    assert event["chat"] == linked.simulator.phone(linked.customer)["lid"]


def test_a_phone_of_old_addresses_by_number(linked: Linked) -> None:
    old = fresh_number()
    linked.simulator.add_phone(old, "Old", addressing="pn")

    linked.simulator.send_text(old, linked.shop, "from a number")

    assert linked.engine.wait_text("from a number")["chat"] == f"{old}@s.whatsapp.net"


def test_receipts_go_both_ways(linked: Linked) -> None:
    simulator, engine = linked.simulator, linked.engine
    incoming = simulator.send_text(linked.customer, linked.shop, "one")
    event = engine.wait_text("one")
    simulator.wait_for_receipt(linked.customer, incoming, "delivered")

    engine.ask("mark_read", ids=[incoming], chat=event["chat"], sender=event["chat"])
    simulator.wait_for_receipt(linked.customer, incoming, "read")

    sent = engine.ask("send_text", to=linked.customer, text="two")
    simulator.wait_for_text(linked.customer, "two")
    engine.wait("Receipt", lambda receipt: receipt["ids"] == [sent] and receipt["type"] != READ)
    simulator.read(linked.customer, [sent])
    engine.wait("Receipt", lambda receipt: receipt["ids"] == [sent] and receipt["type"] == READ)


def test_reading_on_the_phone_is_told_to_the_engine(linked: Linked) -> None:
    incoming = linked.simulator.send_text(linked.customer, linked.shop, "read me")
    linked.engine.wait_text("read me")

    linked.simulator.read(linked.shop, [incoming])

    receipt = linked.engine.wait("Receipt", lambda each: each["ids"] == [incoming])
    assert receipt["from_me"]
    assert receipt["chat"] == linked.simulator.phone(linked.customer)["lid"]


def test_a_message_for_a_phone_without_network_waits(linked: Linked) -> None:
    linked.simulator.change_phone(linked.customer, online=False)
    sent = linked.engine.ask("send_text", to=linked.customer, text="later")
    assert linked.simulator.inbox(linked.customer) == []

    linked.simulator.change_phone(linked.customer, online=True)

    linked.simulator.wait_for_text(linked.customer, "later")
    linked.engine.wait("Receipt", lambda receipt: receipt["ids"] == [sent])


def test_a_group_talks(linked: Linked) -> None:
    simulator, engine = linked.simulator, linked.engine
    third = fresh_number()
    simulator.add_phone(third, "Third")
    group = simulator.add_group("Entregas", [linked.customer, linked.shop, third])
    assert engine.wait("JoinedGroup")["subject"] == "Entregas"

    simulator.send_text(linked.customer, group, "hello group")
    simulator.send_text(third, group, "again")
    first, second = engine.wait_text("hello group"), engine.wait_text("again")
    engine.ask("send_text", to=group, text="from the engine")

    assert first["chat"] == second["chat"] == group
    assert (first["sender_alt"], second["sender_alt"]) == (linked.customer, third)
    for number in (linked.customer, third, linked.shop):
        got = simulator.wait_for_text(number, "from the engine")
        assert (got["chat"], got["group"]) == (group, True)
    assert engine.ask("group", group=group) == {"subject": "Entregas", "participants": 3}


def test_quotes_reactions_edits_and_revokes_arrive(linked: Linked) -> None:
    simulator, engine = linked.simulator, linked.engine
    sent = engine.ask("send_text", to=linked.customer, text="question")
    simulator.wait_for_text(linked.customer, "question")

    answer = simulator.send_text(linked.customer, linked.shop, "answer", quoted_id=sent)
    emoji = {"to": linked.shop, "type": "reaction", "target_id": sent, "text": "👍"}
    reaction = simulator.send(linked.customer, **emoji)
    change = {"to": linked.shop, "target_id": answer}
    simulator.send(linked.customer, type="edit", text="better answer", **change)
    simulator.send(linked.customer, type="revoke", **change)

    context = engine.wait_text("answer")["content"]["extendedTextMessage"]["contextInfo"]
    assert context["stanzaID"] == sent
    got = engine.wait("Message", lambda event: event["id"] == reaction)["content"]
    assert got["reactionMessage"]["key"]["ID"] == sent
    engine.wait("Message", lambda event: "better answer" in str(event["content"]))
    engine.wait("Message", lambda event: answer in str(event["content"].get("protocolMessage")))


def test_files_go_both_ways(linked: Linked) -> None:
    simulator, engine = linked.simulator, linked.engine
    data = os.urandom(100_000)
    for kind in ("image", "video", "audio", "document"):
        id_ = simulator.send_media(
            linked.customer, linked.shop, kind, data, file_name="a.pdf", caption="look"
        )
        engine.wait("Message", lambda event, id_=id_: event["id"] == id_)  # type: ignore[misc]
        assert base64.b64decode(engine.ask("download", id=id_)) == data, kind

    image = engine.ask("upload", data=base64.b64encode(data).decode())
    message = {"imageMessage": {**image, "caption": "from the engine"}}
    sent = engine.ask("send_message", to=linked.customer, message=message)

    got = simulator.wait_for_text(linked.customer, "from the engine")
    assert (got["type"], got["media"]["size_bytes"]) == ("image", len(data))
    assert simulator.media(linked.customer, sent) == data


def test_two_engines_of_two_accounts_talk(linked: Linked, engines: Engines) -> None:
    other = engines.new(linked.simulator)
    other.pair(linked.customer)

    linked.engine.ask("send_text", to=linked.customer, text="engine to engine")
    other.wait_text("engine to engine")
    other.ask("send_text", to=linked.shop, text="and back")

    linked.engine.wait_text("and back")


def test_two_engines_of_one_account_see_the_same(linked: Linked, engines: Engines) -> None:
    second = engines.new(linked.simulator)
    second.pair(linked.shop)

    linked.simulator.send_text(linked.customer, linked.shop, "for both")
    linked.engine.wait_text("for both")
    second.wait_text("for both")
    linked.engine.ask("send_text", to=linked.customer, text="from the first")

    assert second.wait_text("from the first")["from_me"]


def test_history_comes_after_linking(linked: Linked, engines: Engines) -> None:
    past = {
        "to": linked.customer,
        "name": "Maria",
        "messages": [
            {"text": "old one", "at": 1_700_000_000},
            {"text": "old answer", "at": 1_700_000_100, "from_me": True},
        ],
    }
    linked.simulator.history(linked.shop, [past])
    second = engines.new(linked.simulator)

    second.pair(linked.shop)

    history = second.wait("HistorySync", lambda event: bool(event["data"].get("conversations")))
    conversation = history["data"]["conversations"][0]
    texts = [each["message"]["message"]["conversation"] for each in conversation["messages"]]
    assert texts == ["old answer", "old one"]
    assert conversation["ID"] == linked.simulator.phone(linked.customer)["lid"]


def test_presence_and_typing_go_both_ways(linked: Linked) -> None:
    linked.simulator.send_text(linked.customer, linked.shop, "hi")
    linked.engine.wait_text("hi")
    eventually(lambda: linked.engine.ask("available"))
    # without an answer to wait for: the server has it when it answers the next request
    assert linked.engine.ask("is_on_whatsapp", number=linked.customer) is True
    linked.simulator.typing(linked.customer, linked.shop)
    linked.engine.wait("ChatPresence")

    linked.engine.ask("typing", to=linked.simulator.phone(linked.customer)["lid"])

    entry = linked.simulator.wait_for(linked.customer, lambda each: each["kind"] == "typing")
    assert (entry["state"], entry["sender_number"]) == ("composing", linked.shop)
    assert linked.simulator.phone(linked.shop)["available"]


def test_who_is_on_whatsapp(linked: Linked) -> None:
    assert linked.engine.ask("is_on_whatsapp", number=linked.customer) is True
    assert linked.engine.ask("is_on_whatsapp", number="5500000000000") is False
