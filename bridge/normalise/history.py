"""Parts of a history → what `bridge_record_history` takes. Pure; never raises.

A message of the past goes the way of a live one (`rows_of`), so both make the same row. What its
kind makes besides a message (a reaction, an edit) becomes an event, recorded after the messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from bridge.events import HistoryPart, MessageReceived, PastChat, PastMessage, Person
from bridge.normalise.event import rows_of
from bridge.normalise.identity import chat_of, peer_of, person_of
from bridge.normalise.rows import (
    Chat,
    DiagnosticRow,
    MessageRow,
    Part,
    PersonPart,
    Row,
    clean,
    iso,
    to_json,
)

OWN_STATUSES = frozenset({"sent", "delivered", "read", "played", "failed"})
MOST_UNREAD = 1_000_000
_KINDS = frozenset({"direct", "group", "broadcast"})


class HistoryMessage(Part, frozen=True):
    """A row of the past.

    Attributes:
        status: as the phone had it, for own messages.
        revoked: deleted for everyone.
    """

    row: MessageRow
    status: str
    revoked: bool


class HistoryChat(Part, frozen=True):
    """A chat of the past, with some of its messages."""

    chat: Chat
    peer: PersonPart | None
    name: str | None
    unread: int
    archived: bool
    pinned: bool
    muted_until: str | None
    more_on_phone: bool | None
    messages: list[HistoryMessage]


class History(Part, frozen=True):
    """One call's worth.

    Attributes:
        progress: percent of everything, for `sync_progress`.
        events: what is recorded like live events, after the messages.
    """

    progress: int
    people: list[PersonPart]
    chats: list[HistoryChat]
    events: list[Row]

    def sealed(self, seal: Callable[[dict[str, Any]], dict[str, Any]]) -> History:
        """With what opens files made unreadable."""
        return msgspec.structs.replace(self, chats=[_sealed(chat, seal) for chat in self.chats])

    def halves(self) -> tuple[History, History] | None:
        """Two calls' worth; None if it cannot be divided."""
        for name in ("events", "chats", "people"):
            items = getattr(self, name)
            if len(items) > 1 or (items and self._kinds() > 1):
                middle = len(items) // 2
                return (
                    msgspec.structs.replace(self, **{name: items[:middle]}),
                    msgspec.structs.replace(self, **_NOTHING | {name: items[middle:]}),
                )
        if self.chats and len(self.chats[0].messages) > 1:
            (chat,), middle = self.chats, len(self.chats[0].messages) // 2
            first, second = (
                msgspec.structs.replace(chat, messages=some)
                for some in (chat.messages[:middle], chat.messages[middle:])
            )
            return (
                msgspec.structs.replace(self, chats=[first]),
                msgspec.structs.replace(self, chats=[second]),
            )
        return None

    def _kinds(self) -> int:
        return bool(self.events) + bool(self.chats) + bool(self.people)


_NOTHING: dict[str, list[Any]] = {"events": [], "chats": [], "people": []}


def _sealed(chat: HistoryChat, seal: Callable[[dict[str, Any]], dict[str, Any]]) -> HistoryChat:
    messages = []
    for message in chat.messages:
        file = message.row.attachment
        if file is not None:
            sealed = seal(file.media) if file.media is not None else None
            file = msgspec.structs.replace(file, media=None, sealed=sealed)
            row = msgspec.structs.replace(message.row, attachment=file)
            messages.append(msgspec.structs.replace(message, row=row))
        else:
            messages.append(message)
    return msgspec.structs.replace(chat, messages=messages)


def history_of(parts: Iterable[HistoryPart], *, progress: int) -> History:
    """Several parts, in order, as one."""
    people: list[PersonPart] = []
    chats: list[HistoryChat] = []
    events: list[Row] = []
    for part in parts:
        people += [p for p in map(person_of, part.people) if p.phone_jid or p.lid]
        for each in part.chats:
            found = _chat(each, part.own, events)
            if found is not None:
                chats.append(found)
    return History(progress=progress, people=people, chats=chats, events=events)


def history_json(history: History) -> dict[str, Any]:
    """The argument of `bridge_record_history`."""
    chats = []
    for each in history.chats:
        built: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(each, messages=[]))
        built["messages"] = [
            to_json(message.row) | {"status": message.status, "revoked": message.revoked}
            for message in each.messages
        ]
        chats.append(built)
    return {
        "progress": history.progress,
        "people": msgspec.to_builtins(history.people),
        "chats": chats,
        "events": [to_json(row) for row in history.events],
    }


def _chat(past: PastChat, own: Person, events: list[Row]) -> HistoryChat | None:
    chat = chat_of(past.chat)
    if chat.kind not in _KINDS:
        return None
    messages = []
    for each in past.messages:
        message, others = _message(each, past, own)
        if message is not None:
            messages.append(message)
        events += others
    return HistoryChat(
        chat=chat,
        peer=peer_of(chat, past.peer),
        name=clean(past.name).strip()[:200] or None if past.name else None,
        unread=max(0, min(past.unread, MOST_UNREAD)),
        archived=past.archived,
        pinned=past.pinned,
        muted_until=muted_until(past.muted_until),
        more_on_phone=past.more_on_phone,
        messages=messages,
    )


def _message(
    past: PastMessage, chat: PastChat, own: Person
) -> tuple[HistoryMessage | None, list[Row]]:
    sender = own if past.from_me else past.sender or chat.peer
    if sender is None or not (sender.phone_jid or sender.lid):
        return None, []  # nobody knows who wrote it
    told = MessageReceived(
        id=past.id,
        chat=chat.chat,
        peer=chat.peer,
        sender=sender,
        from_me=past.from_me,
        sent_at=past.sent_at,
        message={"revoked": {}} if past.revoked else past.message,
    )
    found: HistoryMessage | None = None
    others: list[Row] = []
    for row in rows_of(told):
        if isinstance(row, MessageRow) and found is None:
            known = past.from_me and past.status in OWN_STATUSES
            status = past.status if known else "sent" if past.from_me else "delivered"
            found = HistoryMessage(row=row, status=status, revoked=past.revoked)
        else:
            others.append(row)
    for change in past.changes:
        others += rows_of(change)
    return found, [row for row in others if not isinstance(row, DiagnosticRow)]


def muted_until(unix_s: float | None) -> str | None:
    """ISO time; what is later than any calendar is its end."""
    if unix_s is None or unix_s <= 0:
        return None
    last = datetime(9999, 1, 1, tzinfo=UTC)
    return iso(unix_s) if unix_s < last.timestamp() else last.isoformat()
