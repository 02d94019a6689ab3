"""Baileys, a client that no one here wrote, lives on the simulator.

What it understands is WhatsApp's protocol, not just what our engine happens to accept.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.baileys_client import BaileysClient, Event, running_baileys
from tests.fixtures.simulator import Simulator, fresh_number, own_simulator
from tests.integration.simulator.conftest import Engine, Engines
from tests.integration.simulator.test_messages import READ

_LOGGED_OUT, _CONNECTION_CLOSED = 401, 428
_PAST_MESSAGES = 50


@pytest.fixture(scope="module")
def whatsapp() -> Iterator[Simulator]:
    """A simulator for Baileys alone, so that what it did not know is known."""
    with own_simulator() as running:
        yield running


@dataclass(frozen=True, slots=True)
class Linked:
    """A phone with Baileys linked to it, and a phone of somebody else."""

    client: BaileysClient
    number: str
    other: str
    other_lid: str


def _link(whatsapp: Simulator, client: BaileysClient, number: str) -> Event:
    whatsapp.scan(number, client.wait_for("qr")["qr"])
    return client.wait_for("connected")


def _person(whatsapp: Simulator, name: str, **options: str) -> str:
    number = fresh_number()
    whatsapp.add_phone(number, name, **options)
    return number


def _entry(whatsapp: Simulator, number: str, id_: str) -> Event:
    return whatsapp.wait_for(number, lambda entry: entry.get("id") == id_)


def _wait_until_the_companion_has(whatsapp: Simulator, sender: str, id_: str) -> None:
    """Until its receipt has come: the phone's own one names no device."""
    whatsapp.wait_for(
        sender,
        lambda entry: entry["kind"] == "receipt" and id_ in entry["ids"] and ":" in entry["reader"],
    )


@pytest.fixture(scope="module")
def linked(whatsapp: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Linked]:
    """One linked client for all tests that only talk."""
    number, other = _person(whatsapp, "Ana"), _person(whatsapp, "Bruno")
    past = [{"text": f"past {n}", "at": 1_700_000_000 + n} for n in range(_PAST_MESSAGES)]
    whatsapp.history(number, [{"to": other, "messages": past}])
    state = tmp_path_factory.mktemp("baileys") / "state"
    with running_baileys(whatsapp.control_url, state) as client:
        _link(whatsapp, client, number)
        yield Linked(client, number, other, whatsapp.phone(other)["lid"])


# ---------------------------------------------------------------------- linking


def test_links_by_qr_code_and_the_phone_lists_it(whatsapp: Simulator, linked: Linked) -> None:
    connected = linked.client.wait_for("connected")
    [device] = whatsapp.companions(linked.number)
    assert (connected["jid"], connected["lid"]) == (device["jid"], device["lid"])
    assert device["prekeys"] > 0


def test_a_newly_linked_client_gets_the_history(linked: Linked) -> None:
    linked.client.wait_for("history", chats=1, messages=_PAST_MESSAGES)


def test_links_by_the_code_typed_on_the_phone(whatsapp: Simulator, tmp_path: Path) -> None:
    number, other = _person(whatsapp, "Ana"), _person(whatsapp, "Bruno")
    with running_baileys(whatsapp.control_url, tmp_path / "state", phone=number) as client:
        whatsapp.link_code(number, client.wait_for("code")["code"])
        client.wait_for("connected")
        id_ = whatsapp.send_text(other, number, "linked without a camera")
        assert client.wait_for("message", id=id_)["text"] == "linked without a camera"


def test_logs_in_again_from_its_state_and_gets_what_it_missed_once_in_order(
    whatsapp: Simulator, tmp_path: Path
) -> None:
    number, other = _person(whatsapp, "Ana"), _person(whatsapp, "Bruno")
    with running_baileys(whatsapp.control_url, tmp_path / "state") as client:
        _link(whatsapp, client, number)
        first = whatsapp.send_text(other, number, "before")
        client.wait_for("message", id=first)
        _wait_until_the_companion_has(whatsapp, other, first)
    missed = [whatsapp.send_text(other, number, f"missed {n}") for n in range(20)]
    with running_baileys(whatsapp.control_url, tmp_path / "state") as client:
        client.wait_for("message", id=missed[-1])
        live = whatsapp.send_text(other, number, "live again")
        client.wait_for("message", id=live)
        arrived = [each["id"] for each in client.seen("message", from_me=False)]
        assert arrived == [*missed, live]
        assert not client.seen("qr")


def test_unlinking_on_the_phone_ends_the_session_for_good(
    whatsapp: Simulator, tmp_path: Path
) -> None:
    number = _person(whatsapp, "Ana")
    with running_baileys(whatsapp.control_url, tmp_path / "state") as client:
        _link(whatsapp, client, number)
        whatsapp.unlink(number)
        client.wait_for("disconnected", code=_LOGGED_OUT, final=True)
        client.wait_ended()
    with running_baileys(whatsapp.control_url, tmp_path / "state") as client:
        client.wait_for("disconnected", code=_LOGGED_OUT, final=True)
        client.wait_ended()


def test_comes_back_after_a_dropped_connection(whatsapp: Simulator, linked: Linked) -> None:
    linked.client.wait_for("message", id=whatsapp.send_text(linked.other, linked.number, "before"))
    whatsapp.start_fault("drop", number=linked.number)
    linked.client.wait_for("disconnected", final=False, code=_CONNECTION_CLOSED)
    linked.client.wait_for("message", id=whatsapp.send_text(linked.other, linked.number, "after"))


# ---------------------------------------------------------------------- messages


def test_receives_a_text_and_knows_both_addresses_of_its_author(
    whatsapp: Simulator, linked: Linked
) -> None:
    id_ = whatsapp.send_text(linked.other, linked.number, "olá 👋")
    message = linked.client.wait_for("message", id=id_)
    assert (message["kind"], message["text"], message["name"]) == ("text", "olá 👋", "Bruno")
    assert message["chat"] == linked.other_lid
    assert message["chat_alt"] == f"{linked.other}@s.whatsapp.net"


def test_receives_from_a_contact_that_is_addressed_by_number(
    whatsapp: Simulator, linked: Linked
) -> None:
    number = _person(whatsapp, "Clara", addressing="pn")
    id_ = whatsapp.send_text(number, linked.number, "the old way")
    message = linked.client.wait_for("message", id=id_)
    assert {message["chat"], message["chat_alt"]} == {
        f"{number}@s.whatsapp.net",
        whatsapp.phone(number)["lid"],
    }


@pytest.mark.parametrize("address", ["lid", "jid"])
def test_sends_a_text_that_the_phone_decrypts_and_the_own_phone_sees(
    whatsapp: Simulator, linked: Linked, address: str
) -> None:
    text = f"by {address}"
    id_ = linked.client.send_text(whatsapp.phone(linked.other)[address], text)
    received = whatsapp.wait_for_text(linked.other, text)
    assert (received["id"], received["sender_number"]) == (id_, linked.number)
    copy = whatsapp.wait_for_text(linked.number, text)
    assert (copy["id"], copy["from_me"]) == (id_, True)


def test_a_group_hears_it_and_it_hears_the_group(whatsapp: Simulator, linked: Linked) -> None:
    third = _person(whatsapp, "Clara")
    group = whatsapp.add_group("Família", [linked.other, linked.number, third])
    for author in (linked.other, third):
        id_ = whatsapp.send_text(author, group, f"from {author}")
        message = linked.client.wait_for("message", id=id_)
        assert (message["chat"], message["text"]) == (group, f"from {author}")
        assert message["from_alt"] == f"{author}@s.whatsapp.net"
    for text in ("first, with the key", "second, without"):
        id_ = linked.client.send_text(group, text)
        for member in (linked.other, third, linked.number):
            received = whatsapp.wait_for_text(member, text)
            assert (received["id"], received["chat"]) == (id_, group)


def test_receipts_go_both_ways(whatsapp: Simulator, linked: Linked) -> None:
    theirs = whatsapp.send_text(linked.other, linked.number, "read me")
    message = linked.client.wait_for("message", id=theirs)
    whatsapp.wait_for_receipt(linked.other, theirs, "delivered")
    linked.client.read(message)
    whatsapp.wait_for_receipt(linked.other, theirs, "read")
    ours = linked.client.send_text(linked.other_lid, "now you")
    linked.client.wait_for("receipt", id=ours, type="delivered")
    whatsapp.read(linked.other, [ours])
    linked.client.wait_for("receipt", id=ours, type="read")


def test_receipts_in_a_group_name_each_reader(whatsapp: Simulator, linked: Linked) -> None:
    third = _person(whatsapp, "Clara")
    group = whatsapp.add_group("Equipe", [linked.number, linked.other, third])
    ours = linked.client.send_text(group, "who reads this?")
    for reader in (linked.other, third):
        whatsapp.wait_for_text(reader, "who reads this?")
        whatsapp.read(reader, [ours])
        linked.client.wait_for(
            "receipt", id=ours, type="read", reader=whatsapp.phone(reader)["lid"]
        )
    theirs = whatsapp.send_text(third, group, "and this?")
    linked.client.read(linked.client.wait_for("message", id=theirs))
    whatsapp.wait_for_receipt(third, theirs, "read")


@pytest.mark.parametrize("kind", ["image", "video", "audio", "document"])
def test_files_arrive_whole_in_both_directions(
    whatsapp: Simulator, linked: Linked, kind: str
) -> None:
    theirs, ours = secrets.token_bytes(150_000), secrets.token_bytes(150_001)
    id_ = whatsapp.send_media(linked.other, linked.number, kind, theirs, file_name="a.bin")
    message = linked.client.wait_for("message", id=id_)
    assert (message["kind"], message["sha256"]) == (kind, hashlib.sha256(theirs).hexdigest())
    id_ = linked.client.send_media(linked.other_lid, kind, ours, file_name="b.bin")
    received = _entry(whatsapp, linked.other, id_)
    assert received["type"] == kind
    assert received["media"]["sha256"] == hashlib.sha256(ours).hexdigest()
    assert whatsapp.media(linked.other, id_) == ours


def test_reactions_edits_and_deletions_name_their_message(
    whatsapp: Simulator, linked: Linked
) -> None:
    theirs = whatsapp.send_text(linked.other, linked.number, "before the edit")
    message = linked.client.wait_for("message", id=theirs)
    ours = linked.client.send_text(linked.other_lid, "mine, before the edit")
    whatsapp.wait_for_text(linked.other, "mine, before the edit")
    own_key = {"remoteJid": linked.other_lid, "id": ours, "fromMe": True}
    their_key = {"remoteJid": message["chat"], "id": theirs, "fromMe": False}

    for type_, target, text in (
        ("reaction", their_key, "👍"),
        ("edit", own_key, "mine, after the edit"),
        ("revoke", own_key, None),
    ):
        id_ = linked.client.send(to=linked.other_lid, type=type_, target=target, text=text)
        entry = _entry(whatsapp, linked.other, id_)
        assert (entry["type"], entry["target_id"]) == (type_, target["id"])
        assert entry["text"] == text

    reaction = whatsapp.send(
        linked.other, to=linked.number, type="reaction", target_id=ours, text="❤️"
    )
    seen = linked.client.wait_for("message", id=reaction)
    assert (seen["kind"], seen["target_id"], seen["text"]) == ("reaction", ours, "❤️")


def test_asks_again_for_what_it_could_not_decrypt(whatsapp: Simulator, linked: Linked) -> None:
    sender = _person(whatsapp, "Clara")
    id_ = whatsapp.send_text(sender, linked.number, "damaged on the way", garbled=True)
    message = linked.client.wait_for("message", id=id_)
    assert message["text"] == "damaged on the way"


# ---------------------------------------------------------------------- our engine at the far end


@pytest.fixture(scope="module")
def clara(whatsapp: Simulator) -> Iterator[tuple[str, Engine]]:
    """Somebody whose phone has our engine linked to it."""
    engines, number = Engines(), _person(whatsapp, "Clara")
    try:
        engine = engines.new(whatsapp)
        engine.pair(number)
        yield number, engine
    finally:
        engines.close()


def _wait_for_read(engine: Engine, id_: str) -> None:
    engine.wait("Receipt", lambda receipt: receipt["ids"] == [id_] and receipt["type"] == READ)


def _wait_for_message(engine: Engine, id_: str) -> Event:
    return engine.wait("Message", lambda event: event["id"] == id_)


def test_texts_and_receipts_pass_between_it_and_our_engine(
    linked: Linked, clara: tuple[str, Engine]
) -> None:
    number, engine = clara
    for turn in range(3):
        theirs = engine.ask("send_text", to=linked.number, text=f"from the engine {turn}")
        message = linked.client.wait_for("message", id=theirs)
        assert message["text"] == f"from the engine {turn}"
        assert message["chat_alt"] == f"{number}@s.whatsapp.net"
        linked.client.read(message)
        _wait_for_read(engine, theirs)

        ours = linked.client.send_text(message["chat"], f"from Baileys {turn}")
        event = engine.wait_text(f"from Baileys {turn}")
        assert (event["id"], event["sender_alt"]) == (ours, linked.number)
        engine.ask("mark_read", ids=[ours], chat=event["chat"], sender=event["chat"])
        linked.client.wait_for("receipt", id=ours, type="read")


def test_both_talk_in_one_group(
    whatsapp: Simulator, linked: Linked, clara: tuple[str, Engine]
) -> None:
    number, engine = clara
    group = whatsapp.add_group("Todos", [linked.number, number, linked.other])
    engine.wait("JoinedGroup", lambda event: event["subject"] == "Todos")
    for turn in range(2):
        theirs = engine.ask("send_text", to=group, text=f"engine to all {turn}")
        assert linked.client.wait_for("message", id=theirs)["chat"] == group
        ours = linked.client.send_text(group, f"Baileys to all {turn}")
        event = engine.wait_text(f"Baileys to all {turn}")
        assert (event["id"], event["chat"]) == (ours, group)


def test_images_pass_between_it_and_our_engine(linked: Linked, clara: tuple[str, Engine]) -> None:
    _, engine = clara
    theirs, ours = secrets.token_bytes(80_000), secrets.token_bytes(80_001)
    uploaded = engine.ask("upload", data=base64.b64encode(theirs).decode())
    id_ = engine.ask("send_message", to=linked.number, message={"imageMessage": uploaded})
    message = linked.client.wait_for("message", id=id_)
    assert message["sha256"] == hashlib.sha256(theirs).hexdigest()
    id_ = linked.client.send_media(message["chat"], "image", ours)
    _wait_for_message(engine, id_)
    assert base64.b64decode(engine.ask("download", id=id_)) == ours


@pytest.mark.parametrize(
    ("message", "part", "expected"),
    [
        (
            {"type": "location", "latitude": -23.5, "longitude": -46.6, "text": "Loja"},
            "locationMessage",
            {"degreesLatitude": -23.5, "degreesLongitude": -46.6, "name": "Loja"},
        ),
        (
            {"type": "contact", "text": "Eva", "vcard": "BEGIN:VCARD\nFN:Eva\nEND:VCARD"},
            "contactMessage",
            {"displayName": "Eva", "vcard": "BEGIN:VCARD\nFN:Eva\nEND:VCARD"},
        ),
        (
            {"type": "poll", "text": "Quando?", "options": ["hoje", "amanhã"]},
            "pollCreationMessageV3",
            {"name": "Quando?", "options": [{"optionName": "hoje"}, {"optionName": "amanhã"}]},
        ),
        ({"type": "audio", "media_base64": "b2k=", "ptt": True}, "audioMessage", {"PTT": True}),
        ({"type": "sticker", "media_base64": "b2k="}, "stickerMessage", {"fileLength": "2"}),
    ],
    ids=["location", "contact", "poll", "voice note", "sticker"],
)
def test_our_engine_understands_other_kinds(
    linked: Linked,
    whatsapp: Simulator,
    clara: tuple[str, Engine],
    message: dict[str, object],
    part: str,
    expected: dict[str, object],
) -> None:
    number, engine = clara
    id_ = linked.client.send(to=whatsapp.phone(number)["lid"], **message)
    content = _wait_for_message(engine, id_)["content"][part]
    assert {key: content.get(key) for key in expected} == expected


def test_it_encrypts_for_a_device_that_its_contact_links_later(
    whatsapp: Simulator, linked: Linked, engines: Engines
) -> None:
    number = _person(whatsapp, "Davi")
    lid = whatsapp.phone(number)["lid"]
    linked.client.send_text(lid, "only the phone can read this")
    whatsapp.wait_for_text(number, "only the phone can read this")
    engine = engines.new(whatsapp)
    engine.pair(number)
    # the news of the device comes before this message, in order
    linked.client.wait_for("message", id=whatsapp.send_text(number, linked.number, "linked"))
    id_ = linked.client.send_text(lid, "both can read this")
    assert engine.wait_text("both can read this")["id"] == id_


def test_our_engine_learns_that_its_contact_linked_it_and_that_it_logged_out(
    whatsapp: Simulator, clara: tuple[str, Engine], tmp_path: Path
) -> None:
    number, (author, engine) = _person(whatsapp, "Eva"), clara
    engine.ask("send_text", to=number, text="before")
    with running_baileys(whatsapp.control_url, tmp_path / "state") as client:
        _link(whatsapp, client, number)
        # the news of the device comes before this message, in order
        whatsapp.send_text(number, author, "linked")
        engine.wait_text("linked")
        id_ = engine.ask("send_text", to=number, text="for both")
        assert client.wait_for("message", id=id_)["text"] == "for both"
        client.logout()
        client.wait_ended()
    assert whatsapp.companions(number) == []
    whatsapp.send_text(number, author, "unlinked")
    engine.wait_text("unlinked")
    engine.ask("send_text", to=number, text="for the phone again")
    whatsapp.wait_for_text(number, "for the phone again")


def test_our_engine_on_the_same_phone_sees_what_it_sends_and_vice_versa(
    whatsapp: Simulator, engines: Engines, tmp_path: Path
) -> None:
    number, other = _person(whatsapp, "Ana"), _person(whatsapp, "Bruno")
    other_lid = whatsapp.phone(other)["lid"]
    engine = engines.new(whatsapp)
    with running_baileys(whatsapp.control_url, tmp_path / "state") as client:
        _link(whatsapp, client, number)
        engine.pair(number)
        ours = client.send_text(other_lid, "sent by Baileys")
        event = engine.wait_text("sent by Baileys")
        assert (event["id"], event["from_me"], event["chat"]) == (ours, True, other_lid)
        theirs = engine.ask("send_text", to=other, text="sent by the engine")
        copy = client.wait_for("message", id=theirs)
        assert (copy["from_me"], copy["chat"]) == (True, other_lid)


def test_every_request_of_baileys_was_known_to_the_simulator(
    whatsapp: Simulator, linked: Linked
) -> None:
    linked.client.wait_for("history")
    assert whatsapp.state()["unknown_requests"] == []
