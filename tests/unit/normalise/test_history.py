"""Parts of a history become what the database takes; nothing makes it raise."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge.events import HistoryPart, MessageReceived, PastChat, PastMessage, Person
from bridge.ids import Jid, WhatsAppMessageId
from bridge.normalise.history import history_json, history_of

PHONE = Jid("5511900000001@s.whatsapp.net")
LID = Jid("123456789@lid")
GROUP = Jid("120363000000000001@g.us")
MARIA = Person(phone_jid=PHONE, lid=LID, push_name="Maria")
OWN = Person(phone_jid=Jid("5511900000000@s.whatsapp.net"), lid=Jid("999@lid"))

texts = st.text(max_size=20)
jids = st.one_of(st.just(PHONE), st.just(LID), st.just(GROUP), texts.map(Jid))
people = st.builds(
    Person,
    phone_jid=st.none() | jids,
    lid=st.none() | jids,
    push_name=st.none() | texts,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
kinds = st.sampled_from(
    ["conversation", "imageMessage", "extendedTextMessage", "reactionMessage", "protocolMessage"]
)
messages = st.builds(
    PastMessage,
    id=texts.map(WhatsAppMessageId),
    sender=st.none() | people,
    from_me=st.booleans(),
    sent_at=st.floats(allow_nan=True),
    status=st.sampled_from(["sent", "read", "failed", "nonsense"]),
    message=st.dictionaries(kinds | texts, json_values, max_size=3),
    revoked=st.booleans(),
)
chats = st.builds(
    PastChat,
    chat=jids,
    peer=st.none() | people,
    name=st.none() | texts,
    unread=st.integers(),
    archived=st.booleans(),
    pinned=st.booleans(),
    muted_until=st.none() | st.floats(allow_nan=False),
    more_on_phone=st.none() | st.booleans(),
    messages=st.lists(messages, max_size=4),
)
parts = st.builds(
    HistoryPart,
    own=st.just(OWN),
    progress=st.integers(0, 100),
    share=st.floats(0, 1),
    last=st.booleans(),
    people=st.lists(people, max_size=3),
    chats=st.lists(chats, max_size=3),
)


def past(id_: str, message: dict[str, Any], **changed: Any) -> PastMessage:
    fields: dict[str, Any] = {
        "id": WhatsAppMessageId(id_),
        "sender": MARIA,
        "from_me": False,
        "sent_at": 1_700_000_000,
        "status": "sent",
        "message": message,
    }
    return PastMessage(**(fields | changed))


def told(*said: PastMessage, **about: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"chat": LID, "peer": MARIA, "messages": list(said)}
    chat = PastChat(**(fields | about))
    part = HistoryPart(own=OWN, progress=50, share=1.0, last=True, chats=[chat])
    return history_json(history_of([part], progress=50))


@given(st.lists(parts, max_size=2))
def test_anything_becomes_a_call_that_is_json(all_parts: list[HistoryPart]) -> None:
    built = history_json(history_of(all_parts, progress=7))
    assert "\x00" not in json.loads(json.dumps(built, allow_nan=False)).__repr__()
    for chat in built["chats"]:
        assert 0 <= chat["unread"] <= 1_000_000


@given(parts)
def test_halves_hold_what_the_whole_held(part: HistoryPart) -> None:
    whole = history_of([part], progress=1)
    halves = whole.halves()
    if halves is None:
        return

    def flat(*histories: Any) -> list[Any]:
        return [
            *(p for h in histories for p in h.people),
            *(m for h in histories for c in h.chats for m in c.messages),
            *(e for h in histories for e in h.events),
        ]

    assert flat(*halves) == flat(whole)
    sizes = [len(h.people) + len(h.chats) + len(h.events) + len(flat(h)) for h in (whole, *halves)]
    assert max(sizes[1:]) < sizes[0]


def test_a_past_message_is_the_same_row_as_a_live_one() -> None:
    (chat,) = told(past("A", {"conversation": "Olá"}))["chats"]
    assert chat["chat"] == {"jid": LID, "kind": "direct"}
    assert chat["peer"] == {"phone_jid": PHONE, "lid": LID, "push_name": "Maria"}
    (row,) = chat["messages"]
    assert (row["kind"], row["tipo"], row["conteudo"]) == ("message", "text", "Olá")
    assert (row["status"], row["revoked"]) == ("delivered", False)


def test_an_own_message_keeps_its_status_and_is_from_oneself() -> None:
    own = past("A", {"conversation": "Oi"}, from_me=True, sender=None, status="read")
    (row,) = told(own)["chats"][0]["messages"]
    assert (row["from_me"], row["status"], row["sender"]["lid"]) == (True, "read", "999@lid")


def test_in_a_group_a_message_of_nobody_is_left_out() -> None:
    said = past("A", {"conversation": "Oi"}, sender=None)
    assert told(said, chat=GROUP, peer=None)["chats"][0]["messages"] == []


def test_a_revoked_message_is_a_row_without_text() -> None:
    (row,) = told(past("A", {}, revoked=True))["chats"][0]["messages"]
    assert (row["tipo"], row["conteudo"], row["revoked"]) == ("unsupported", None, True)


def test_reactions_come_as_events_after_the_messages() -> None:
    reaction = MessageReceived(
        id=WhatsAppMessageId("AR"),
        chat=LID,
        peer=MARIA,
        sender=OWN,
        from_me=True,
        sent_at=1_700_000_001,
        message={"reactionMessage": {"key": {"ID": "A", "fromMe": False}, "text": "👍"}},
    )
    built = told(past("A", {"conversation": "Oi"}, changes=[reaction]))
    (event,) = built["events"]
    assert (event["kind"], event["target_id"], event["emoji"]) == ("reaction", "A", "👍")
    assert event["target_from_me"] is False


def test_channels_and_statuses_are_left_out() -> None:
    assert told(past("A", {"conversation": "x"}), chat=Jid("status@broadcast"))["chats"] == []
    assert told(past("A", {"conversation": "x"}), chat=Jid("1@newsletter"))["chats"] == []


def test_muted_for_ever_is_the_end_of_the_calendar() -> None:
    assert told(muted_until=float("inf"))["chats"][0]["muted_until"].startswith("9999-01-01")
    assert told(muted_until=0.0)["chats"][0]["muted_until"] is None
