"""The protocol between the bridge and an engine process: length, then one MessagePack struct.

Both ends are the same version of this package; `Hello` says so before anything else, because an old
process may outlive an upgrade. A session is named by a number that is never used twice, so a late
frame of a closed session can not be taken for one of its successor.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from bridge.events import HistoryPart, Signal
from bridge.ids import CommandId, Jid, SpoolPosition, WhatsAppMessageId
from bridge.orders import Outgoing, Request
from bridge.vault import AccountKeys

PROTOCOL_VERSION = 3
# How an engine ends that stood still beyond its leases: no fault of any account's.
LEASE_OVER_EXIT = 6
MAX_FRAME_BYTES = 32 * 1024 * 1024
_LENGTH = struct.Struct(">I")


class FrameError(Exception):
    """The other side does not speak this protocol; the connection is useless."""


class Frame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all frames."""


# ------------------------------------------------------------------------- parent to engine


class Open(Frame, frozen=True, tag=True):
    """Open the spool, replay it, and connect.

    Attributes:
        connect: false to only replay the spool.
        pair: `qr`, `code`, or empty for a device that is linked already.
        history_dir: where histories wait; wiped when a phone is linked anew.
        history_days: how far back they are wanted; 0 = not at all.
        strict: hold back what goes until it cannot be lost (`bridge.engine.barrier`).
        proxy: URL of a proxy to reach WhatsApp through; empty = as the environment says.
        written: of sends that an earlier run released: whether they reached the wire. None = that
            is not known of any.
    """

    session: int
    keys: AccountKeys
    spool_dir: str
    spool_max_bytes: int
    database: str
    device_name: str
    window: int
    connect: bool
    connect_timeout_s: float
    pairing_timeout_s: float
    history_keys: AccountKeys
    history_dir: str
    history_days: int
    pair: str = ""
    phone: str = ""
    strict: bool = False
    proxy: str = ""
    written: dict[WhatsAppMessageId, bool] | None = None


class Disconnect(Frame, frozen=True, tag=True):
    """Leave WhatsApp and put everything in hand in the spool; answered by `Quiet`."""

    session: int


class Close(Frame, frozen=True, tag=True):
    """The same, then close the spool; answered by `Closed`."""

    session: int


class Confirm(Frame, frozen=True, tag=True):
    """The spool may forget everything up to here."""

    session: int
    position: SpoolPosition


class ConfirmHistory(Frame, frozen=True, tag=True):
    """The spool of histories may forget everything up to here."""

    session: int
    position: SpoolPosition


class Lease(Frame, frozen=True, tag=True):
    """The session ends by itself in ``ttl_s`` from now, unless this comes again."""

    session: int
    ttl_s: float


class Send(Frame, frozen=True, tag=True):
    """Answered when it is in the account's queue; the outcome is spooled."""

    session: int
    request: int
    command_id: CommandId
    to: Jid
    order: Outgoing


class Do(Frame, frozen=True, tag=True):
    """Answered with the order's value when it is done."""

    session: int
    request: int
    order: Request


class Done(Frame, frozen=True, tag=True):
    """Answers `Copy` or `Commit`: whether it was done."""

    session: int
    number: int
    done: bool


class Ping(Frame, frozen=True, tag=True):
    """Answered by a `Pong` with the same number."""

    number: int


ToEngine = Open | Disconnect | Close | Confirm | ConfirmHistory | Lease | Send | Do | Done | Ping


# ------------------------------------------------------------------------- engine to parent


class Hello(Frame, frozen=True, tag=True):
    """First frame: the engine has loaded its library."""

    version: int
    pid: int


class Opened(Frame, frozen=True, tag=True):
    """The spool is open.

    Attributes:
        first: position of the first delivery, whether it exists already or not.
        replay_until: position of the last one from an earlier run; 0 if there is none.
    """

    session: int
    first: SpoolPosition
    replay_until: SpoolPosition


class OpenFailed(Frame, frozen=True, tag=True):
    """The session could not start; it does not exist."""

    session: int
    code: str
    sentence: str


class Delivered(Frame, frozen=True, tag=True):
    """One spooled event, still encoded."""

    session: int
    position: SpoolPosition
    event: msgspec.Raw


class HistoryDelivered(Frame, frozen=True, tag=True):
    """One part of a history."""

    session: int
    position: SpoolPosition
    part: HistoryPart


class Signalled(Frame, frozen=True, tag=True):
    """One signal."""

    session: int
    signal: Signal


class Answer(Frame, frozen=True, tag=True):
    """Ends a request; ``code`` is empty if it was done.

    Attributes:
        value: what the order says it answers; made of JSON's types.
    """

    session: int
    request: int
    code: str = ""
    sentence: str = ""
    retryable: bool = False
    value: Any = None


class Leaving(msgspec.Struct, frozen=True, kw_only=True):
    """A send that is written when the checkpoint is made, and its size on the wire, about."""

    id: WhatsAppMessageId
    least_bytes: int
    most_bytes: int


class Copy(Frame, frozen=True, tag=True):
    """Take a copy of the session file; answered by `Done`."""

    session: int
    number: int


class Commit(Frame, frozen=True, tag=True):
    """Make the last copy the checkpoint, durably; answered by `Done`.

    Attributes:
        copy_first: take another one before, at once.
    """

    session: int
    number: int
    copy_first: bool = False
    leaving: list[Leaving] = []


class NotStrict(Frame, frozen=True, tag=True):
    """The session goes on in standard mode: its checkpoint is worth nothing from now on."""

    session: int


class Quiet(Frame, frozen=True, tag=True):
    """The session left WhatsApp; ``last`` is its last delivery."""

    session: int
    last: SpoolPosition


class Closed(Frame, frozen=True, tag=True):
    """The session is over and its spool is closed."""

    session: int


class Pong(Frame, frozen=True, tag=True):
    """The engine's main loop is alive.

    Attributes:
        spent: how much this process has leaked (threads, files): it should be replaced when idle.
    """

    number: int
    spent: int = 0


class Complaint(Frame, frozen=True, tag=True):
    """Something for the log: a code and a constant sentence, nothing of anybody's."""

    code: str
    sentence: str


ToParent = (
    Hello
    | Opened
    | OpenFailed
    | Delivered
    | HistoryDelivered
    | Signalled
    | Answer
    | Copy
    | Commit
    | NotStrict
    | Quiet
    | Closed
    | Pong
    | Complaint
)

_encoder = msgspec.msgpack.Encoder()
_to_engine: msgspec.msgpack.Decoder[ToEngine] = msgspec.msgpack.Decoder(ToEngine)
_to_parent: msgspec.msgpack.Decoder[ToParent] = msgspec.msgpack.Decoder(ToParent)


def encode(frame: ToEngine | ToParent) -> bytes:
    """A frame as it goes over the socket.

    :raises FrameError: if it is larger than the other side accepts.
    """
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError("A frame is too large.")
    return _LENGTH.pack(len(body)) + body


def decode_to_engine(body: bytes) -> ToEngine:
    """Parse what the parent sent.

    :raises FrameError: if it is none of `ToEngine`.
    """
    try:
        return _to_engine.decode(body)
    except msgspec.MsgspecError as error:
        raise FrameError("The parent sent an unknown frame.") from error


def decode_to_parent(body: bytes) -> ToParent:
    """Parse what an engine sent.

    :raises FrameError: if it is none of `ToParent`.
    """
    try:
        return _to_parent.decode(body)
    except msgspec.MsgspecError as error:
        raise FrameError("The engine sent an unknown frame.") from error


class Splitter:
    """Cuts a byte stream into frame bodies, however it was chopped on the way."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add bytes; yields each body that is complete now.

        :raises FrameError: if a length is not believable.
        """
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= _LENGTH.size:
                (size,) = _LENGTH.unpack_from(self._buffer, start)
                if size > MAX_FRAME_BYTES:
                    raise FrameError("A frame announces more bytes than are allowed.")
                end = start + _LENGTH.size + size
                if len(self._buffer) < end:
                    break
                yield bytes(self._buffer[start + _LENGTH.size : end])
                start = end
        finally:
            del self._buffer[:start]

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)
