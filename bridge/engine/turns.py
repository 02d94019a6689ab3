"""Lets one account's sends and decryptions take turns.

whatsmeow loads a Signal session, encrypts, and stores it later; a decryption of a message from the
same device does the same meanwhile, without a common lock, and the last writer wins. With 60
messages a second in each direction of one chat a quarter of them could not be decrypted at first.

The DEBUG log shows both, by synchronous calls in the goroutine concerned: "Decrypting message" is
said before each decryption (one at a time), a receipt or an acknowledgement is sent after it, and a
message is shown just before it is written, when its session is stored already.

Every wait is short and bounded: a sign that does not come costs time, never a message.
"""

from __future__ import annotations

import re
import threading

from bridge.ids import WhatsAppMessageId

SEND_WAITS_S = 0.5
DECRYPTION_WAITS_S = 5.0

# Serialised log entries: the text is field 1 and comes first, the logger's name is the last.
_DECRYPTS = b"Decrypting message from"
_SENDER = b"Client/Send"
_HEAD_BYTES = 64
_MESSAGE_ID = re.compile(rb'<message [^>]*\bid="([0-9A-Za-z.-]{1,64})"')


class Turns:
    """One an account. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sending = False
        self._decrypting = False

    def begin_send(self) -> None:
        """Wait for the decryption in hand; the next ones wait."""
        with self._changed:
            self._changed.wait_for(lambda: not self._decrypting, SEND_WAITS_S)
            self._sending = True

    def end_send(self) -> None:
        """The message is written, or will not be."""
        with self._changed:
            self._sending = False
            self._changed.notify_all()

    def look(self, entry: bytes) -> WhatsAppMessageId | None:
        """A log entry of this account: the caller's goroutine goes on when this returns.

        Returns:
            The id of a message that is about to be written, if the entry shows one.
        """
        head = entry[:_HEAD_BYTES]
        if _DECRYPTS in head:
            with self._changed:
                self._changed.wait_for(lambda: not self._sending, DECRYPTION_WAITS_S)
                self._decrypting = True
        elif entry.endswith(_SENDER):
            if b"<message " in head:
                self.end_send()
                shown = _MESSAGE_ID.search(entry)
                return WhatsAppMessageId(shown[1].decode()) if shown else None
            if b"<receipt " in head or b'<ack class="message"' in head:
                with self._changed:
                    self._decrypting = False
                    self._changed.notify_all()
        return None
