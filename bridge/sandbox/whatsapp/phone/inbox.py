"""What a phone got, as entries that are numbered and never change."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio
import msgspec

_KEPT = 5000


class MediaNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The file that a message is about; `media_key` is base64."""

    kind: str
    mime_type: str
    size_bytes: int
    sha256: str
    direct_path: str
    media_key: str
    file_name: str | None = None
    voice_note: bool = False


class Entry(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base: `seq` grows by one an entry, `at` is Unix time."""

    seq: int
    at: float


class Message(Entry, frozen=True, tag="message"):
    """A decrypted message.

    Attributes:
        chat: the group, or the other person (LID or phone, as the stanza said).
        sender, sender_number: who wrote it; `sender` has the device.
        text: text, caption or emoji.
        target_id: what a reaction, edit or revoke is about.
        details: what else the kind says: `mentions`, a place, a contact card, a poll.
    """

    id: str
    chat: str
    sender: str
    sender_number: str
    type: str
    from_me: bool = False
    group: bool = False
    text: str | None = None
    quoted_id: str | None = None
    target_id: str | None = None
    media: MediaNote | None = None
    details: dict[str, Any] = {}


class Receipt(Entry, frozen=True, tag="receipt"):
    """Somebody got, read or played messages that this phone's account sent.

    Attributes:
        type: delivered, read, played, retry; or read_self when the own account read a chat.
    """

    ids: list[str]
    type: str
    chat: str
    reader: str
    reader_number: str


class Typing(Entry, frozen=True, tag="typing"):
    """Somebody is typing, recording, or stopped."""

    chat: str
    sender_number: str
    state: str


class CallRejected(Entry, frozen=True, tag="call_rejected"):
    """Somebody refused a call of this phone."""

    id: str
    by_number: str


class Undecryptable(Entry, frozen=True, tag="undecryptable"):
    """A message that did not decrypt; the phone asked for it again."""

    id: str
    chat: str
    sender: str
    problem: str


InboxEntry = Message | Receipt | Typing | CallRejected | Undecryptable


class Inbox:
    """Keeps the latest entries, and lets readers wait for the next."""

    def __init__(self, entries: list[InboxEntry], last_seq: int) -> None:
        self.entries = entries
        self.last_seq = last_seq
        self._news = anyio.Event()

    def add(self, make: Callable[[int, float], InboxEntry]) -> None:
        """Append an entry made from its number and time."""
        self.last_seq += 1
        self.entries.append(make(self.last_seq, time.time()))
        del self.entries[:-_KEPT]
        self._news.set()
        self._news = anyio.Event()

    def after(self, seq: int) -> list[InboxEntry]:
        """The entries with a greater number, oldest first."""
        return [entry for entry in self.entries if entry.seq > seq]

    async def wait_after(self, seq: int, wait_s: float) -> list[InboxEntry]:
        """As `after`; waits up to `wait_s` for the first one."""
        with anyio.move_on_after(wait_s):
            while self.last_seq <= seq:
                await self._news.wait()
        return self.after(seq)

    def message(self, id_: str) -> Message | None:
        """The latest message of that id."""
        for entry in reversed(self.entries):
            if isinstance(entry, Message) and entry.id == id_:
                return entry
        return None
