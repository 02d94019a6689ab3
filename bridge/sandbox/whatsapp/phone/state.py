"""What a phone remembers. Plain data, written to disk."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.sandbox.whatsapp.codec.nodes import LID_SERVER
from bridge.sandbox.whatsapp.crypto.signal_store import SignalStore
from bridge.sandbox.whatsapp.phone.history import PastConversation
from bridge.sandbox.whatsapp.phone.inbox import InboxEntry
from bridge.sandbox.whatsapp.server.app_state import SyncKey

_KEPT_MESSAGES = 2000


@dataclass(slots=True)
class KnownMessage:
    """A message that was sent or received, for quoting, reading receipts and sending again."""

    chat: str
    sender: str
    from_me: bool
    raw: bytes
    stanza_type: str = "text"
    media_type: str | None = None


@dataclass(slots=True)
class PhoneState:
    """One phone.

    Attributes:
        addressing: how its direct messages name people: `lid` or `pn`.
        known: messages by id; one's own and others' never share an id.
        distributed: ``group|key id|device`` that have our sender key.
        history: what the next linked companion gets, in so many chunks.
        history_withheld: they are announced, and cannot be fetched for now.
    """

    number: str
    store: SignalStore
    sync_key: SyncKey
    addressing: str = LID_SERVER
    known: dict[str, KnownMessage] = field(default_factory=dict)
    distributed: set[str] = field(default_factory=set)
    history: list[PastConversation] = field(default_factory=list)
    history_chunks: int = 1
    history_withheld: bool = False
    inbox: list[InboxEntry] = field(default_factory=list)
    last_seq: int = 0

    def remember(self, id_: str, message: KnownMessage) -> None:
        """Keep a message (the oldest go)."""
        self.known[id_] = message
        while len(self.known) > _KEPT_MESSAGES:
            del self.known[next(iter(self.known))]
