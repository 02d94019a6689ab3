"""One entry in neonize's maps: connect, hear, ask.

The library is used below its `NewClient.connect`: `Neonize()` is called here, in a thread of ours,
so that every callback is ours too. What matters about it (measured, or read in its source):

* Three maps are global and unlocked: nothing here may be called but through `engine.gate`.
* A client that was stopped is nil in the maps, and most functions panic on that.
* A client's name has to be new each time: with a stale one the finalizer of a dead Python object
  would stop its successor. The finalizer never runs here anyway.
* It acknowledges a message when it has queued its event; hence the *blocking* event callback.
* Nothing may be raised into Go.
"""

from __future__ import annotations

import ctypes
import enum
import os
import threading
import uuid
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import pylibmagic  # noqa: F401 - puts libmagic where neonize's import finds it
from neonize._binder import (
    ProxySettings,
    func_callback_bytes,
    func_callback_bytes2,
    func_string,
    gocode,
)
from neonize.client import NewClient
from neonize.exc import NeonizeError
from neonize.proto import Neonize_pb2 as wire
from neonize.proto.waCompanionReg.WAWebProtobufsCompanionReg_pb2 import DeviceProps
from neonize.proto.waHistorySync.WAWebProtobufsHistorySync_pb2 import HistorySync

from bridge.engine import translate
from bridge.engine.history import Announced
from bridge.engine.whatsapp import requests, uploads
from bridge.engine.whatsapp.address import address_of
from bridge.ids import Jid, WhatsAppMessageId
from bridge.orders import Request, Uploaded, UploadMedia

# WhatsApp shows it on the phone's notification; the form "Browser (OS)" is checked by the server
_PAIRING_NAME = "Chrome (Linux)"
_PAIRING_BROWSER = 1

# No fsync: the file is worthless after a power cut (another boot id), the replica is used then.
# The last parameter swallows the "?_foreign_keys=on" that neonize appends.
_DATABASE = "{path}?_foreign_keys=on&_sync=OFF&_busy_timeout=10000&_rest="


class Kind(enum.IntEnum):
    """Events that are asked for; the numbers are those of `neonize.events.EVENT_TO_INT`."""

    DEVICE = 0
    CONNECTED = 3
    LOGGED_OUT = 6
    REPLACED = 7
    BANNED = 8
    CONNECT_FAILURE = 9
    OUTDATED = 10
    DISCONNECTED = 12
    HISTORY = 13
    MESSAGE = 17
    RECEIPT = 18
    TYPING = 19
    JOINED_GROUP = 21
    GROUP_CHANGED = 22
    PICTURE_CHANGED = 23
    BLOCKLIST_CHANGED = 30
    CALL_OFFERED = 36
    CALL_ACCEPTED = 37
    CALL_NOTICED = 40
    CALL_ENDED = 42
    UNDECRYPTABLE = 44


_PARSERS: dict[Kind, Any] = {
    Kind.DEVICE: wire.Device,
    Kind.CONNECTED: wire.Connected,
    Kind.LOGGED_OUT: wire.LoggedOut,
    Kind.REPLACED: wire.StreamReplaced,
    Kind.BANNED: wire.TemporaryBan,
    Kind.CONNECT_FAILURE: wire.ConnectFailure,
    Kind.OUTDATED: wire.ClientOutdated,
    Kind.DISCONNECTED: wire.Disconnected,
    Kind.MESSAGE: wire.Message,
    Kind.RECEIPT: wire.Receipt,
    Kind.TYPING: wire.ChatPresence,
    Kind.JOINED_GROUP: wire.JoinedGroup,
    Kind.GROUP_CHANGED: wire.GroupInfoEvent,
    Kind.PICTURE_CHANGED: wire.Picture,
    Kind.BLOCKLIST_CHANGED: wire.BlocklistEvent,
    Kind.CALL_OFFERED: wire.CallOffer,
    Kind.CALL_ACCEPTED: wire.CallAccept,
    Kind.CALL_NOTICED: wire.CallOfferNotice,
    Kind.CALL_ENDED: wire.CallTerminate,
    Kind.UNDECRYPTABLE: wire.UndecryptableMessage,
}
# the device comes by itself
_SUBSCRIBED = bytes(kind for kind in Kind if kind is not Kind.DEVICE)


# goneonize/utils/utils.go: index of MediaHistory; whatsmeow download.go: its name at the server
_HISTORY, _HISTORY_NAME = 4, b"md-msg-hist"


class RequestFailed(Exception):
    """WhatsApp or the library refused; the text is whatsmeow's, for `engine.outcome` only."""


@dataclass(frozen=True, slots=True)
class Sent:
    """WhatsApp's server took the message."""

    id: WhatsAppMessageId
    sent_at: float


class Listener(Protocol):
    """Whom a client tells. Called in threads of Go; may block; may raise (see `stumbled`)."""

    def on_log(self, entry: bytes) -> None:
        """A serialised `LogEntry`, in the goroutine that logs, which goes on afterwards."""

    def on_qr(self, text: str) -> None:
        """A QR is to be shown."""

    def on_login(self, word: str) -> bool:
        """How pairing goes on; False stops the client's thread here for good."""

    def on_event(self, kind: Kind, proto: Any) -> None:
        """An event; the next one waits until this returns."""

    def on_history(self, event: memoryview) -> None:
        """A serialised `HistorySync` event, of up to 100 MB; memory of Go, gone on return."""

    def stumbled(self, where: str) -> None:
        """One of the others raised. Must not raise."""


def parse_history(data: bytes) -> Any:
    """A `HistorySync`."""
    return HistorySync.FromString(data)


class Client:
    """One entry in neonize's maps."""

    def __init__(self, database: str, listener: Listener, *, proxy: str = "") -> None:
        self._database = _DATABASE.format(path=database).encode()
        self._name = uuid.uuid4().hex.encode()
        self._client = NewClient(database, uuid=self._name.decode())
        self._client._stop_finalizer.detach()  # noqa: SLF001 - it would call Stop outside the gate
        self._callbacks = _Callbacks(listener)
        self._proxy = ProxySettings(proxy)._to_c_struct() if proxy else None  # noqa: SLF001

    def run(self, device_name: str) -> str:
        """Connect, and hand over events until the client is stopped. Blocks.

        Returns:
            Why it ended, in the words of whatsmeow; empty if it was stopped.
        """
        props = DeviceProps(os=device_name, platformType=DeviceProps.CHROME).SerializeToString()
        subscribed = ctypes.create_string_buffer(_SUBSCRIBED, len(_SUBSCRIBED))
        error: bytes = gocode.Neonize(
            self._database,
            self._name,
            b"",
            0,
            0,
            b"DEBUG",  # its lines are signs (`Listener.on_log`); none is ever written anywhere
            *self._callbacks.functions,
            subscribed,
            len(_SUBSCRIBED),
            props,
            len(props),
            b"",
            0,
            ctypes.byref(self._proxy) if self._proxy is not None else None,
        )
        return error.decode("utf-8", "replace")

    def disconnect(self) -> None:
        """Close the connection; whatsmeow does not reconnect."""
        gocode.Disconnect(self._name)

    def stop(self) -> None:
        """Take the client out of the maps; `run` returns. Nothing may be called afterwards."""
        gocode.Stop(self._name)

    def release(self) -> None:
        """The listener hears nothing more."""
        self._callbacks.listener = None

    def show_ticks(self) -> None:
        """Let the other person see that messages arrived.

        Without it whatsmeow says "inactive" for every message, and no app shows a second tick.
        """
        gocode.SetForceActiveDeliveryReceipts(self._name, True)

    def pairing_code(self, phone: str) -> str | None:
        """Ask for a code to be typed on the phone, after the first QR; None if it is refused."""
        params = wire.PairPhoneParams(
            phone=phone,
            clientDisplayName=_PAIRING_NAME,
            clientType=_PAIRING_BROWSER,
            showPushNotification=True,
        ).SerializeToString()
        raw: bytes = gocode.PairPhone(self._name, params, len(params))
        answer = wire.PairPhoneReturnFunction.FromString(raw)
        return None if answer.Error else answer.Code or None

    def send(self, to: Jid, message: Any) -> Sent:
        """Send a `waE2E.Message`, and wait for the server.

        :raises RequestFailed: if it did not take it, or did not say so.
        """
        target = address_of(to).SerializeToString()
        body = message.SerializeToString()
        raw: bytes = gocode.SendMessage(self._name, target, len(target), body, len(body))
        answer = wire.SendMessageReturnFunction.FromString(raw)
        if answer.Error:
            raise RequestFailed(answer.Error)
        response = answer.SendResponse
        return Sent(WhatsAppMessageId(response.ID), translate.seconds(response.Timestamp))

    def do(self, order: Request) -> Any:
        """Have it done, and wait for the server; gives what the order says it answers.

        :raises RequestFailed: if that failed.
        """
        try:
            return requests.perform(self._client, order)
        except NeonizeError as error:
            raise RequestFailed(str(error)) from None

    def upload(self, order: UploadMedia) -> Uploaded:
        """Leave a file at WhatsApp. Blocks for as long as it takes.

        :raises RequestFailed: if that failed.
        """
        try:
            return uploads.upload(self._name, order)
        except uploads.UploadFailed as error:
            raise RequestFailed(str(error)) from None

    def ask_for_door(self) -> None:
        """Have the library ask WhatsApp where uploads go, if it does not know any more.

        neonize does not export the question. An upload of a few bytes asks it, and nobody is told
        where they are.

        :raises RequestFailed: if that failed.
        """
        try:
            uploads.upload_bytes(self._name, os.urandom(16), "document")
        except uploads.UploadFailed as error:
            raise RequestFailed(str(error)) from None

    def download_history(self, announced: Announced) -> bytes:
        """The compressed history.

        :raises RequestFailed: if that failed.
        """
        raw: bytes = gocode.DownloadMediaWithPath(
            self._name,
            announced.direct_path.encode(),
            announced.file_enc_sha256,
            len(announced.file_enc_sha256),
            announced.file_sha256,
            len(announced.file_sha256),
            announced.media_key,
            len(announced.media_key),
            0,
            _HISTORY,
            _HISTORY_NAME,
        )
        answer = wire.DownloadReturnFunction.FromString(raw)
        if answer.Error:
            raise RequestFailed(answer.Error)
        return bytes(answer.Binary)

    def poll_vote(self, event: Any) -> list[str] | None:
        """What a vote holds: hashes of the options, hexadecimal. Asks nobody.

        Args:
            event: the `Message` event that brought it.

        Returns:
            None if it does not decrypt: this device never got the poll.
        """
        body = event.SerializeToString()
        # neonize's own method fails: it takes the C structure for bytes, and never frees it
        found = gocode.DecryptPollVote(self._name, body, len(body))
        try:
            answer = wire.ReturnFunctionWithError.FromString(found.contents.get_bytes())
        finally:
            gocode.FreeBytesStruct(found)
        if answer.Error:
            return None
        return [each.hex() for each in answer.PollVoteMessage.selectedOptions]

    def lid_of(self, phone: Jid) -> Jid | None:
        """The LID of a phone JID, if this device has learnt it. Asks nobody."""
        try:
            return translate.jid(self._client.get_lid_from_pn(address_of(phone)))
        except NeonizeError:
            return None


class _Callbacks:
    """The C functions of one client, which live as long as the process.

    Goroutines of a stopped client go on for a while, and log: a function that was freed with its
    client would be called then (measured: SIGSEGV with twelve accounts). Only the functions stay,
    not who listened.
    """

    _all: ClassVar[list[_Callbacks]] = []

    def __init__(self, listener: Listener) -> None:
        self.listener: Listener | None = listener
        self.functions = (
            func_string(self._qr),
            func_string(self._login),
            func_callback_bytes(self._event),
            func_callback_bytes2(self._log),
        )
        self._all.append(self)

    def _qr(self, _name: int, text: int) -> None:
        if (listener := self.listener) is not None:
            try:
                listener.on_qr(ctypes.string_at(text).decode())
            except Exception:  # noqa: BLE001 - must not reach Go
                listener.stumbled("qr")

    def _login(self, _name: int, status: int) -> None:
        go_on = False
        if (listener := self.listener) is not None:
            try:
                go_on = listener.on_login(ctypes.string_at(status).decode())
            except Exception:  # noqa: BLE001 - must not reach Go
                listener.stumbled("login")
        if not go_on:
            # On return neonize would read its maps and spin, until a device id exists: for ever.
            threading.Event().wait()

    def _event(self, _name: bytes, data: int, size: int, code: int) -> None:
        if (listener := self.listener) is not None:
            try:
                kind = Kind(code)
                if kind is Kind.HISTORY:
                    # not copied: it may be a hundred megabytes
                    array = (ctypes.c_char * size).from_address(data) if size else b""
                    listener.on_history(memoryview(array).cast("B"))
                    return
                raw = ctypes.string_at(data, size) if size else b""
                listener.on_event(kind, _PARSERS[kind].FromString(raw))
            except Exception:  # noqa: BLE001 - must not reach Go
                listener.stumbled(f"event {code}")

    def _log(self, data: int, size: int) -> None:
        if (listener := self.listener) is not None and data and size > 0:
            try:
                listener.on_log(ctypes.string_at(data, size))
            except Exception:  # noqa: BLE001 - must not reach Go
                listener.stumbled("log")
