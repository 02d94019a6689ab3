"""Events become rows; nothing that is thrown at it makes it raise."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.events import (
    EventNotUnderstood,
    GroupNews,
    MessageReceived,
    MessageUndecryptable,
    Person,
    PersonSeen,
    ReceiptReceived,
    SendFailed,
    SendStarted,
    SendSucceeded,
    SpooledEvent,
)
from bridge.ids import CommandId, Jid, WhatsAppMessageId
from bridge.normalise import rows_of, to_json

PHONE = Jid("5511900000001@s.whatsapp.net")
LID = Jid("123456789@lid")
GROUP = Jid("120363000000000001@g.us")
COMMAND = CommandId("00000000-0000-0000-0000-00000000c001")


def received(message: dict[str, Any], **changed: Any) -> MessageReceived:
    fields: dict[str, Any] = {
        "id": WhatsAppMessageId("ABC"),
        "chat": PHONE,
        "peer": Person(phone_jid=PHONE, lid=LID, push_name="Maria"),
        "sender": Person(phone_jid=PHONE, lid=LID, push_name="Maria"),
        "from_me": False,
        "sent_at": 1_700_000_000.25,
        "message": message,
    }
    return MessageReceived(**(fields | changed))


def only_row(event: SpooledEvent) -> dict[str, Any]:
    rows = rows_of(event)
    assert len(rows) == 1
    return to_json(rows[0])


def test_a_plain_text() -> None:
    assert only_row(received({"conversation": "Olá"})) == {
        "kind": "message",
        "whatsapp_message_id": "ABC",
        "chat": {"jid": PHONE, "kind": "direct"},
        "peer": {"phone_jid": PHONE, "lid": LID, "push_name": "Maria"},
        "sender": {"phone_jid": PHONE, "lid": LID, "push_name": "Maria"},
        "from_me": False,
        "tipo": "text",
        "conteudo": "Olá",
        "quoted_whatsapp_message_id": None,
        "mentions": [],
        "payload": {},
        "sent_at": "2023-11-14T22:13:20.250000+00:00",
        "placeholder": False,
    }


def test_an_answer_names_what_it_quotes_and_whom_it_mentions() -> None:
    context = {"stanzaID": "QUOTED", "mentionedJID": [PHONE, 7]}
    row = only_row(received({"extendedTextMessage": {"text": "sim", "contextInfo": context}}))
    assert row["conteudo"] == "sim"
    assert row["quoted_whatsapp_message_id"] == "QUOTED"
    assert row["mentions"] == [PHONE]


@pytest.mark.parametrize(
    "wrapper",
    [
        "ephemeralMessage",
        "viewOnceMessage",
        "viewOnceMessageV2",
        "deviceSentMessage",
        "documentWithCaptionMessage",
        "editedMessage",
    ],
)
def test_a_wrapped_text_is_unwrapped(wrapper: str) -> None:
    inner = {"ephemeralMessage": {"message": {"conversation": "dentro"}}}
    row = only_row(received({"messageContextInfo": {}, wrapper: {"message": inner}}))
    assert (row["tipo"], row["conteudo"]) == ("text", "dentro")


def test_a_kind_without_a_name_here_is_kept_as_unsupported() -> None:
    row = only_row(received({"invoiceMessage": {"note": "conta"}}))
    assert (row["tipo"], row["conteudo"]) == ("unsupported", None)
    assert row["payload"] == {"raw_type": "invoiceMessage"}


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"senderKeyDistributionMessage": {"groupID": "x"}},
        {"protocolMessage": {"type": "APP_STATE_SYNC_KEY_SHARE"}},
        {"protocolMessage": {"type": "HISTORY_SYNC_NOTIFICATION"}},
    ],
)
def test_talk_between_devices_makes_no_row(message: dict[str, Any]) -> None:
    assert rows_of(received(message)) == []


@pytest.mark.parametrize("chat", ["status@broadcast", "120363@newsletter"])
def test_status_posts_and_channels_are_told_and_the_database_decides(chat: str) -> None:
    row = only_row(received({"conversation": "x"}, chat=Jid(chat), peer=None))
    assert (row["chat"]["kind"], row["peer"]) == (
        "newsletter" if "newsletter" in chat else "status",
        None,
    )


def test_a_group_message_has_a_sender_and_no_peer() -> None:
    row = only_row(received({"conversation": "x"}, chat=GROUP, peer=None))
    assert row["chat"] == {"jid": GROUP, "kind": "group"}
    assert row["peer"] is None
    assert row["sender"]["phone_jid"] == PHONE


def test_a_direct_chat_by_lid_alone_still_names_its_peer() -> None:
    row = only_row(received({"conversation": "x"}, chat=LID, peer=None, sender=Person()))
    assert row["peer"] == {"phone_jid": None, "lid": LID, "push_name": None}
    assert row["sender"] == {"phone_jid": None, "lid": LID, "push_name": None}


def test_what_cannot_be_decrypted_leaves_a_placeholder() -> None:
    event = MessageUndecryptable(
        id=WhatsAppMessageId("ABC"),
        chat=PHONE,
        peer=None,
        sender=Person(phone_jid=PHONE),
        from_me=False,
        sent_at=0,
    )
    row = only_row(event)
    assert (row["tipo"], row["placeholder"]) == ("unsupported", True)
    assert row["payload"] == {"placeholder": True}


def test_receipts() -> None:
    event = ReceiptReceived(
        ids=[WhatsAppMessageId("A")],
        chat=GROUP,
        peer=None,
        reader=Person(lid=LID),
        kind="read",
        at=0,
    )
    row = only_row(event)
    assert (row["kind"], row["type"], row["ids"]) == ("receipt", "read", ["A"])
    assert row["reader"]["lid"] == LID
    assert rows_of(msgspec.structs.replace(event, kind="server")) == []
    assert rows_of(msgspec.structs.replace(event, ids=[])) == []


@pytest.mark.parametrize(
    ("unknown", "retryable", "status"),
    [
        (True, False, "unknown"),
        (True, True, "unknown"),
        (False, True, "pending"),
        (False, False, "failed"),
    ],
)
def test_a_failed_send_ends_as_what_is_known_of_it(
    unknown: bool, retryable: bool, status: str
) -> None:
    row = only_row(
        SendFailed(
            command_id=COMMAND,
            code="c",
            sentence="s",
            outcome_unknown=unknown,
            retryable=retryable,
        )
    )
    assert (row["kind"], row["status"], row["error_code"]) == ("command_finished", status, "c")


def test_ten_thousand_participants_are_one_line_that_names_a_hundred() -> None:
    crowd = [Person(phone_jid=Jid(f"55119{n:08}@s.whatsapp.net")) for n in range(10_000)]
    news = GroupNews(chat=Jid("1@g.us"), at=1.0, by=None, by_me=False, joined=crowd)
    line, group = map(to_json, rows_of(news))
    assert (len(line["people"]), line["payload"]["count"]) == (100, 10_000)
    assert len(group["joined"]) == 10_000
    mentioning = {"extendedTextMessage": {"text": "@todos", "contextInfo": {}}}
    mentioning["extendedTextMessage"]["contextInfo"] = {
        "mentionedJID": [f"{n}@lid" for n in range(10_000)]
    }
    (row,) = rows_of(received(mentioning))
    assert len(to_json(row)["mentions"]) == 2_000


def test_the_other_events() -> None:
    sent = SendSucceeded(command_id=COMMAND, id=WhatsAppMessageId("A"), sent_at=0)
    assert only_row(sent)["kind"] == "sent"
    assert rows_of(SendStarted(command_id=COMMAND)) == []
    assert only_row(PersonSeen(person=Person(lid=LID)))["kind"] == "person"
    assert rows_of(PersonSeen(person=Person(push_name="?"))) == []
    assert only_row(EventNotUnderstood(kind="X"))["code"] == "event_not_understood"


# ---------------------------------------------------------------- nonsense

KINDS = st.sampled_from(
    ["conversation", "extendedTextMessage", "protocolMessage", "ephemeralMessage", "message"]
)
KEYS = st.one_of(
    KINDS, st.sampled_from(["text", "contextInfo", "stanzaID", "mentionedJID", "type"]), st.text()
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=20,
)
JIDS = st.one_of(st.sampled_from([PHONE, LID, GROUP, Jid("")]), st.text().map(Jid))
PEOPLE = st.builds(
    Person,
    phone_jid=st.none() | JIDS,
    lid=st.none() | JIDS,
    push_name=st.none() | st.text(),
)


@given(
    message=st.dictionaries(KEYS, JSON, max_size=4),
    chat=JIDS,
    peer=st.none() | PEOPLE,
    sender=PEOPLE,
    sent_at=st.floats(),
    id_=st.text(),
)
def test_nonsense_never_raises_and_always_fits_into_postgres(
    message: dict[str, Any],
    chat: Jid,
    peer: Person | None,
    sender: Person,
    sent_at: float,
    id_: str,
) -> None:
    event = received(
        message, chat=chat, peer=peer, sender=sender, sent_at=sent_at, id=WhatsAppMessageId(id_)
    )
    for row in rows_of(event):
        text = msgspec.json.encode(to_json(row)).decode()
        assert "\\u0000" not in text
        json.loads(text)


def test_half_a_surrogate_pair_is_replaced() -> None:
    row = only_row(received({"conversation": "a\ud83d\x00b"}))
    assert row["conteudo"] == "a?b"
