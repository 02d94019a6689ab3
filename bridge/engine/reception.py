"""What WhatsApp tells one session, given on: into the journal, or as a signal.

What is about the session itself is left to `bridge.engine.connection`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from bridge.engine import news, translate
from bridge.engine.asking import Asker
from bridge.engine.plan import Outlets
from bridge.engine.whatsapp.client import Kind
from bridge.errors import CommandError
from bridge.events import BlocklistChanged, MessageReceived, Person, PhoneSeen, SpooledEvent

# The parent writes it far more seldom.
PHONE_EVERY_S = 2.0

_MAY_BE_THE_PHONE = {Kind.MESSAGE, Kind.RECEIPT}

_TRANSLATIONS: dict[Kind, Callable[[Any, Person], SpooledEvent | None]] = {
    Kind.MESSAGE: translate.message,
    Kind.UNDECRYPTABLE: translate.undecryptable,
    Kind.RECEIPT: translate.receipt,
    Kind.GROUP_CHANGED: news.group_changed,
    Kind.JOINED_GROUP: news.group_joined,
    Kind.PICTURE_CHANGED: news.picture_changed,
    Kind.CALL_OFFERED: news.call_offered,
    Kind.CALL_NOTICED: news.call_noticed,
    Kind.CALL_ACCEPTED: news.call_accepted,
    Kind.CALL_ENDED: news.call_ended,
}


class Reception:
    """One a session. Events come one after another."""

    def __init__(self, outlets: Outlets, asker: Asker) -> None:
        self._out = outlets
        self._asker = asker
        self._phone_again_at = 0.0

    def take(self, kind: Kind, proto: Any, own: Person) -> bool:
        """Returns when the event is in the journal, if it belongs there.

        Args:
            kind: of the event.
            proto: the event.
            own: whose account it is.

        Returns:
            False if it is about the session itself: nothing was done then.
        """
        self._note_phone(kind, proto)
        if kind is Kind.MESSAGE and self._announces_history(proto):
            return True
        if kind in _TRANSLATIONS:
            self._take_lasting(_TRANSLATIONS[kind](proto, own), proto)
            return True
        if kind is Kind.TYPING:
            if (shown := translate.typing(proto)) is not None:
                self._out.signal(shown)
            return True
        if kind is Kind.BLOCKLIST_CHANGED:
            self._out.signal(BlocklistChanged())
            return True
        return False

    def _note_phone(self, kind: Kind, proto: Any) -> None:
        now = time.monotonic()
        if (
            kind in _MAY_BE_THE_PHONE
            and now >= self._phone_again_at
            and translate.is_of_the_phone(proto)
        ):
            self._phone_again_at = now + PHONE_EVERY_S
            self._out.signal(PhoneSeen())

    def _take_lasting(self, event: SpooledEvent | None, proto: Any) -> None:
        if isinstance(event, MessageReceived) and proto.Message.HasField("pollUpdateMessage"):
            event = self._with_vote(event, proto)
        if event is not None:
            self._out.spool(event)

    def _announces_history(self, proto: Any) -> bool:
        histories = self._out.histories
        if histories is None or (announced := translate.announced_history(proto)) is None:
            return False
        histories.announce(announced)
        return True

    def _with_vote(self, event: MessageReceived, proto: Any) -> MessageReceived:
        """Votes are encrypted once more, with a secret of the poll that the session keeps."""
        with suppress(CommandError):
            return msgspec.structs.replace(event, poll_vote=self._asker.poll_vote(proto))
        return event
