"""A history is cut into parts: nothing is lost, nothing comes twice, and no part is large."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine.blob import (
    PART_BYTES,
    PART_MESSAGES,
    BlobDamaged,
    Head,
    head_of,
    parts_of,
    unwrapped,
)
from tests.unit.engine.protobufs import past, wire

texts = st.text(max_size=30)
messages = st.tuples(st.integers(1_000, 3_000), texts)
chats = st.lists(st.tuples(texts, st.lists(messages, max_size=250)), max_size=6)


def history(told: list[tuple[str, list[tuple[int, str]]]], **head: Any) -> Any:
    whole = past.HistorySync(syncType=past.HistorySync.RECENT, **head)
    for index, (name, said) in enumerate(told):
        chat = whole.conversations.add(ID=f"{index}@lid", name=name, unreadCount=index)
        for place, (at, text) in enumerate(said):
            info = chat.messages.add().message
            info.key.ID = f"{index}-{place}"
            info.message.conversation = text
            info.messageTimestamp = at
    return whole


def cut(whole: Any, since: float) -> list[tuple[Any, float]]:
    view = memoryview(whole.SerializeToString())
    return [
        (past.HistorySync.FromString(part.data), part.share) for part in parts_of(view, since=since)
    ]


@given(chats, st.integers(900, 3_100))
def test_every_wanted_message_is_in_exactly_one_part_in_order(
    told: list[tuple[str, list[tuple[int, str]]]], since: int
) -> None:
    whole = history(told)
    parts = cut(whole, since)
    got = [
        (chat.ID, chat.name, chat.unreadCount, m.message.key.ID, m.message.message.conversation)
        for part, _ in parts
        for chat in part.conversations
        for m in chat.messages
    ]
    assert got == [
        (chat.ID, chat.name, chat.unreadCount, m.message.key.ID, m.message.message.conversation)
        for chat in whole.conversations
        for m in chat.messages
        if m.message.messageTimestamp >= since
    ]
    shares = [share for _, share in parts]
    assert shares == sorted(shares)
    for part, share in parts:
        assert 0 <= share <= 1
        assert sum(len(chat.messages) for chat in part.conversations) <= PART_MESSAGES
        assert part.ByteSize() <= 2 * PART_BYTES


@given(st.binary(max_size=300))
def test_any_bytes_are_cut_or_refused(data: bytes) -> None:
    view = memoryview(data)
    with suppress(BlobDamaged):
        unwrapped(view)
        head_of(view)
        list(parts_of(view, since=0))


@given(chats, st.data())
def test_a_history_cut_short_is_refused_or_shorter(
    told: list[tuple[str, list[tuple[int, str]]]], data: st.DataObject
) -> None:
    whole = history(told).SerializeToString()
    end = data.draw(st.integers(0, len(whole)))
    with suppress(BlobDamaged):
        list(parts_of(memoryview(whole)[:end], since=0))


def test_head_names_and_addresses_come_through() -> None:
    whole = history([], progress=57, chunkOrder=3)
    whole.pushnames.add(ID="1@lid", pushname="Ana")
    whole.phoneNumberToLidMappings.add(pnJID="5@s.whatsapp.net", lidJID="1@lid")
    event = wire.HistorySync(Data=whole).SerializeToString()
    view = unwrapped(memoryview(event))
    assert head_of(view) == Head(sync_type=3, chunk=3, progress=57)
    (part,) = parts_of(view, since=0)
    assert part.share == 1.0
    small = past.HistorySync.FromString(part.data)
    assert small.pushnames[0].pushname == "Ana"
    assert small.phoneNumberToLidMappings[0].lidJID == "1@lid"


def test_a_chat_that_reaches_further_back_than_wanted_misses_nothing() -> None:
    whole = history([("Ana", [(3_000, "new"), (1_000, "old")]), ("Bia", [(3_000, "new")])])
    for chat in whole.conversations:
        chat.endOfHistoryTransferType = 0
    ((part, _),) = cut(whole, 2_000)
    assert [chat.endOfHistoryTransferType for chat in part.conversations] == [1, 0]
    assert [len(chat.messages) for chat in part.conversations] == [1, 1]


@pytest.mark.parametrize("data", [b"\x0b", b"\x12\xff", b"\xff" * 11, b"\x12\x7f\x00"])
def test_what_is_no_protobuf_is_refused(data: bytes) -> None:
    with pytest.raises(BlobDamaged):
        list(parts_of(memoryview(data), since=0))
