"""What is asked of the library for one session: when it may be, and in which words.

The connection says how far the session is (`Standing`); nothing here changes that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from bridge.engine import downloads, outcome, pictures, upstream
from bridge.engine.gate import Gate
from bridge.engine.history import Announced
from bridge.engine.whatsapp.client import Client, RequestFailed
from bridge.errors import CommandError
from bridge.ids import GROUP_SERVER, PHONE_SERVER, Jid, server_of
from bridge.orders import (
    AskGroup,
    AskPerson,
    DownloadMedia,
    FetchPicture,
    MarkRead,
    RejectCall,
    Request,
    ShowTyping,
    Uploaded,
    UploadMedia,
)

# whatsmeow errors.go: the media host's 403, 404 and 410
_GONE = ("status code 403", "status code 404", "status code 410")


@dataclass(slots=True)
class Standing:
    """How far a session is; written by its connection only.

    Attributes:
        online: connected and logged in.
        registered: neonize's maps hold this client.
        stopping: it is being taken out of them.
        ended: the last signal is given, or nobody waits for one any more.
    """

    online: bool = False
    registered: bool = False
    stopping: bool = False
    ended: bool = False


class Asker:
    """One a session. Its methods block, and may be called in any thread."""

    def __init__(self, client: Client, gate: Gate, standing: Standing) -> None:
        self._client = client
        self._gate = gate
        self._standing = standing
        self._door: upstream.Door | None = None

    def look(self, entry: bytes) -> None:
        """A log entry, which may show where uploads go."""
        self._door = upstream.door_in(entry) or self._door

    @contextmanager
    def entering(self) -> Iterator[None]:
        """Around every call of the library.

        :raises CommandError: `session_over`, if the client is not in neonize's maps (any more).
        """
        with self._gate.entering():
            if self._standing.stopping or not self._standing.registered:
                raise outcome.SESSION_OVER.error()
            yield

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """The same for requests of the parent, which need a connection.

        :raises CommandError: if there is none, or the request fails.
        """
        if not self._standing.online or self._standing.ended:
            raise outcome.NOT_CONNECTED.error()
        try:
            with self.entering():
                yield
        except RequestFailed as error:
            raise outcome.error_of_request(str(error)) from None

    def lid_of(self, address: Jid) -> Jid | None:
        """The LID of a phone JID, if this device has learnt it. Asks nobody."""
        if server_of(address) == PHONE_SERVER:
            with suppress(CommandError), self.entering():
                return self._client.lid_of(address)
        return None

    def do(self, order: Request) -> Any:
        """Blocks; gives what the order says it answers.

        :raises CommandError: if it cannot be done (now).
        """
        match order:
            case MarkRead() | ShowTyping():
                # WhatsApp keeps direct chats under the LID now
                order = msgspec.structs.replace(order, chat=self.lid_of(order.chat) or order.chat)
            case RejectCall():
                # calls come from the LID
                caller = self.lid_of(order.caller) or order.caller
                order = msgspec.structs.replace(order, caller=caller)
            case AskGroup() if server_of(order.chat) != GROUP_SERVER:
                return None
            case FetchPicture():
                with self._asking():
                    there = self._client.do(order)
                return pictures.fetch(there, order)
            case AskPerson():
                person = self.lid_of(order.person) or order.person
                order = msgspec.structs.replace(order, person=person)
            case DownloadMedia():
                return downloads.download(order)  # neither the library nor a connection is needed
            case UploadMedia():
                return msgspec.to_builtins(self._upload(order))
        with self._asking():
            return self._client.do(order)

    def _upload(self, order: UploadMedia) -> Uploaded:
        large = upstream.is_large(order)
        if large and (self._door is None or not self._door.is_open):
            with self._asking():
                self._client.ask_for_door()  # its answer passes `look`
        if large and self._door is not None and self._door.is_open:
            return upstream.upload(order, self._door)
        with self._asking():
            return self._client.upload(order)

    def download_history(self, announced: Announced) -> bytes | None:
        """Blocks; None if WhatsApp does not have it any more.

        :raises CommandError: if it cannot be had now.
        """
        if not self._standing.online or self._standing.ended:
            raise outcome.NOT_CONNECTED.error()
        try:
            with self.entering():
                return self._client.download_history(announced)
        except RequestFailed as error:
            if any(sign in str(error) for sign in _GONE):
                return None
            raise outcome.error_of_request(str(error)) from None

    def poll_vote(self, event: Any) -> list[str] | None:
        """See `Client.poll_vote`. Asks nobody.

        :raises CommandError: `session_over`.
        """
        with self.entering():
            return self._client.poll_vote(event)
