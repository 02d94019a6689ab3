from typing import Any

import pytest

from bridge.engine import translate as translations
from bridge.events import (
    EventNotUnderstood,
    MessageReceived,
    MessageUndecryptable,
    Person,
    ReceiptReceived,
    TypingShown,
)
from bridge.ids import Jid, WhatsAppMessageId
from tests.unit.engine.protobufs import e2e, wire

translate: Any = translations
OWN = Person(phone_jid=Jid("1@s.whatsapp.net"), lid=Jid("100@lid"))
EMPTY: dict[str, Any] = {"User": "", "Server": "", "IsEmpty": True}


def person(phone, lid, push_name=None):
    return Person(phone_jid=phone, lid=lid, push_name=push_name)


def address(text):
    user, server = text.split("@")
    return wire.JID(User=user, Server=server, Device=0, RawAgent=0, Integrator=0, IsEmpty=False)


def source(chat, sender, *, alt=None, recipient_alt=None, from_me=False):
    device = address(sender)
    device.Device = 3
    return wire.MessageSource(
        Chat=address(chat),
        Sender=device,
        SenderAlt=address(alt) if alt else wire.JID(**EMPTY),
        RecipientAlt=address(recipient_alt) if recipient_alt else wire.JID(**EMPTY),
        IsFromMe=from_me,
        IsGroup=chat.endswith("g.us"),
    )


DIRECT = source("200@lid", "200@lid", alt="55@s.whatsapp.net")


def message(content, where=DIRECT, **info):
    return wire.Message(
        Info=wire.MessageInfo(
            ID="M1", Timestamp=1_700_000_000_500, Pushname="Ana", MessageSource=where, **info
        ),
        Message=content,
    )


def test_a_direct_message_names_the_person_by_both_addresses():
    event = translate.message(message(e2e.Message(conversation="hi")), OWN)

    ana = person("55@s.whatsapp.net", "200@lid", "Ana")
    assert event == MessageReceived(
        id=WhatsAppMessageId("M1"),
        chat=Jid("200@lid"),
        peer=ana,
        sender=ana,
        from_me=False,
        sent_at=1_700_000_000.5,
        message={"conversation": "hi"},
    )


def test_an_own_message_from_the_phone_is_oneself_to_the_peer():
    where = source("200@lid", "100@lid", recipient_alt="55@s.whatsapp.net", from_me=True)

    event = translate.message(message(e2e.Message(conversation="hi"), where), OWN)

    assert event.from_me
    assert event.sender == OWN
    assert event.peer == person("55@s.whatsapp.net", "200@lid")


def test_a_group_message_has_a_sender_and_no_peer():
    where = source("9@g.us", "200@lid", alt="55@s.whatsapp.net")

    event = translate.message(message(e2e.Message(conversation="hi"), where), OWN)

    assert (event.chat, event.peer) == ("9@g.us", None)
    assert event.sender.lid == "200@lid"


def kinds(*types):
    return [
        e2e.Message(protocolMessage=e2e.ProtocolMessage(type=getattr(e2e.ProtocolMessage, each)))
        for each in types
    ]


@pytest.mark.parametrize(
    "content",
    [
        e2e.Message(),
        e2e.Message(senderKeyDistributionMessage=e2e.SenderKeyDistributionMessage(groupID="9")),
        e2e.Message(messageContextInfo=e2e.MessageContextInfo(messageSecret=b"x")),
        *kinds("APP_STATE_SYNC_KEY_SHARE", "HISTORY_SYNC_NOTIFICATION"),
    ],
)
def test_what_says_nothing_to_a_person_is_not_delivered(content):
    assert translate.message(message(content), OWN) is None


@pytest.mark.parametrize("content", kinds("REVOKE", "MESSAGE_EDIT"))
def test_revokes_and_edits_are_delivered(content):
    assert translate.message(message(content), OWN) is not None


def test_a_kind_newer_than_our_protobufs_is_delivered():
    content = e2e.Message()
    content.ParseFromString(b"\xfa\xff\x01\x02hi")  # field 4095

    assert translate.message(message(content), OWN).message == {"field4095": {}}


def test_messages_between_own_devices_are_not_delivered():
    content = e2e.Message(conversation="x")

    assert translate.message(message(content, Category="peer"), OWN) is None


def test_a_sender_that_is_no_person_is_a_diagnostic():
    where = source("7@bot", "7@bot")

    event = translate.message(message(e2e.Message(conversation="x"), where), OWN)

    assert event == EventNotUnderstood(kind="message from bot")


def test_an_undecryptable_message_is_delivered_unless_it_is_hidden():
    info = message(e2e.Message()).Info
    shown = wire.UndecryptableMessage(Info=info, DecryptFailMode=1)
    hidden = wire.UndecryptableMessage(Info=info, DecryptFailMode=2)

    assert isinstance(translate.undecryptable(shown, OWN), MessageUndecryptable)
    assert translate.undecryptable(hidden, OWN) is None


def receipt(kind, where=DIRECT):
    return wire.Receipt(
        MessageSource=where, MessageIDs=["A", "B"], Timestamp=1_700_000_000, Type=kind
    )


@pytest.mark.parametrize(("number", "kind"), [(1, "delivered"), (4, "read"), (6, "played")])
def test_receipts_of_others(number, kind):
    event = translate.receipt(receipt(number), OWN)

    assert isinstance(event, ReceiptReceived)
    assert (event.kind, event.ids, event.at) == (kind, ["A", "B"], 1_700_000_000.0)
    assert event.reader.lid == "200@lid"


@pytest.mark.parametrize("number", [2, 3, 8, 9, 10, 11])
def test_receipts_that_no_app_shows_are_not_delivered(number):
    assert translate.receipt(receipt(number), OWN) is None


def test_reading_on_the_own_phone_clears_the_chat_and_getting_does_not():
    own = source("200@lid", "100@lid", from_me=True)

    assert translate.receipt(receipt(5, own), OWN).kind == "read_self"
    assert translate.receipt(receipt(4, own), OWN).kind == "read_self"
    assert translate.receipt(receipt(1, own), OWN) is None


def test_what_an_admin_deletes_and_what_is_seen_once_is_told():
    revoke = e2e.Message(protocolMessage=e2e.ProtocolMessage(type=e2e.ProtocolMessage.REVOKE))
    assert translate.message(message(revoke, Edit="8"), OWN).edit == "8"
    once = message(e2e.Message(imageMessage=e2e.ImageMessage()))
    once.IsViewOnceV2 = True
    assert translate.message(once, OWN).view_once


def test_what_changes_another_message_leaves_no_placeholder():
    info = message(e2e.Message(), Edit="1").Info
    assert translate.undecryptable(wire.UndecryptableMessage(Info=info), OWN) is None


def test_what_only_the_phone_may_show_is_told():
    told = wire.UndecryptableMessage(Info=message(e2e.Message()).Info, IsUnavailable=True)
    assert translate.undecryptable(told, OWN).unavailable


def test_a_post_of_a_channel_has_no_person():
    event = translate.message(
        message(e2e.Message(conversation="x"), source("7@newsletter", "7@newsletter")), OWN
    )
    assert (event.chat, event.peer, event.sender) == ("7@newsletter", None, Person())


@pytest.mark.parametrize(
    ("state", "media", "told"), [(1, 1, "composing"), (1, 2, "recording"), (2, 1, "paused")]
)
def test_who_types(state, media, told):
    event = wire.ChatPresence(MessageSource=DIRECT, State=state, Media=media)
    assert translate.typing(event) == TypingShown(
        chat=Jid("200@lid"), person=person("55@s.whatsapp.net", "200@lid"), state=told
    )
    own = source("200@lid", "100@lid", from_me=True)
    mine = wire.ChatPresence(MessageSource=own, State=state, Media=media)
    assert translate.typing(mine) is None
