"""A history of WhatsApp cut into parts without parsing it as a whole; pure.

A history is one protobuf of up to a hundred megabytes. Only its outer fields are walked here, in
place: what is cut out are small `HistorySync` messages of the same form, with a few conversations
or a piece of a long one, and without what is too old or of no use.

Field numbers are those of WAWebProtobufsHistorySync.proto and WAWebProtobufsWeb.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10

# HistorySync
_SYNC_TYPE, _CONVERSATIONS, _CHUNK_ORDER, _PROGRESS = 1, 2, 5, 6
_PUSH_NAMES, _ADDRESSES = 7, 15
# Conversation: messages, and what a row says of a chat (without lists of participants and the like)
_MESSAGES = 2
_END_TYPE, _NOTHING_MISSES = 11, 1
_OF_A_CHAT = frozenset({1, 6, 8, 11, 12, 13, 16, 19, 24, 25, 38, 39, 42})
# HistorySyncMsg, WebMessageInfo
_MESSAGE, _TIMESTAMP = 1, 3

PART_MESSAGES = 100
PART_BYTES = 128 * 1024


class BlobDamaged(ValueError):
    """It is no protobuf."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a history says of itself.

    Attributes:
        sync_type: 0 the first one, 1 statuses, 2 everything, 3 recent, 4 names, 6 on demand.
        chunk: number within its type.
        progress: percent that the phone has sent with this one.
    """

    sync_type: int
    chunk: int
    progress: int


@dataclass(frozen=True, slots=True)
class Part:
    """A piece.

    Attributes:
        data: a serialised `HistorySync`.
        share: how much of the whole is behind it, 0 to 1.
    """

    data: bytes
    share: float


def unwrapped(event: memoryview) -> memoryview:
    """The `HistorySync` in neonize's event, whose only field it is.

    :raises BlobDamaged: if there is none.
    """
    for number, begin, end, _ in _fields(event):
        if number == 1:
            return event[begin:end]
    return event[:0]


def head_of(blob: memoryview) -> Head:
    """Read the head; fields that are absent are 0.

    :raises BlobDamaged: if it is no protobuf.
    """
    found = {_SYNC_TYPE: 0, _CHUNK_ORDER: 0, _PROGRESS: 0}
    for number, begin, _, wire in _fields(blob):
        if number in found and wire == _VARINT:
            found[number] = _varint(blob, begin)[0]
    progress = min(100, found[_PROGRESS])
    return Head(found[_SYNC_TYPE], found[_CHUNK_ORDER], progress)


def parts_of(blob: memoryview, *, since: float) -> Iterator[Part]:
    """Cut it; messages from before are left out.

    Args:
        blob: a serialised `HistorySync`; must stay valid until the iterator ends.
        since: Unix time of the oldest message that is wanted.

    :raises BlobDamaged: when a piece is reached that is no protobuf.
    """
    size = max(1, len(blob))
    begun = _number(_SYNC_TYPE << 3 | _VARINT) + _number(head_of(blob).sync_type)  # is required
    gathered, messages = bytearray(), 0
    for number, begin, end, wire in _fields(blob):
        if wire != _BYTES:
            continue
        if number == _CONVERSATIONS:
            for piece, count in _pieces(blob[begin:end], since):
                if gathered and not _fits(gathered, messages, piece, count):
                    yield Part(begun + gathered, begin / size)
                    gathered, messages = bytearray(), 0
                gathered += _field(_CONVERSATIONS, piece)
                messages += count
        elif number in (_PUSH_NAMES, _ADDRESSES):
            if not _fits(gathered, messages, blob[begin:end], 0):
                yield Part(begun + gathered, begin / size)
                gathered, messages = bytearray(), 0
            gathered += _field(number, blob[begin:end])
    if gathered:
        yield Part(begun + gathered, 1.0)


def _fits(
    gathered: bytearray, messages: int, piece: bytes | bytearray | memoryview, count: int
) -> bool:
    return len(gathered) + len(piece) <= PART_BYTES and messages + count <= PART_MESSAGES


def _pieces(conversation: memoryview, since: float) -> Iterator[tuple[bytearray, int]]:
    """A conversation as one or more conversations with few messages each.

    One that reaches further back than is wanted says so in place of what the phone said: nothing
    is missing. It is told even if there is no message in it.
    """
    about = bytearray()
    wanted: list[memoryview] = []
    start, reaches_back = 0, False
    for number, begin, end, wire in _fields(conversation):
        if number == _MESSAGES and wire == _BYTES:
            if _sent_at(conversation[begin:end]) >= since:
                wanted.append(conversation[begin:end])
            else:
                reaches_back = True
        elif number in _OF_A_CHAT:
            about += conversation[start:end]
        start = end
    if reaches_back:
        about += _number(_END_TYPE << 3 | _VARINT) + _number(_NOTHING_MISSES)
    piece, count = bytearray(about), 0
    for message in wanted:
        if count and (count == PART_MESSAGES or len(piece) + len(message) > PART_BYTES):
            yield piece, count
            piece, count = bytearray(about), 0
        piece += _field(_MESSAGES, message)
        count += 1
    if count or reaches_back:
        yield piece, count


def _sent_at(message: memoryview) -> float:
    """Unix time; without one it is as new as can be."""
    for number, begin, end, wire in _fields(message):
        if number == _MESSAGE and wire == _BYTES:
            info = message[begin:end]
            for inner, at, _, kind in _fields(info):
                if inner == _TIMESTAMP and kind == _VARINT:
                    return float(_varint(info, at)[0])
    return float("inf")


def _fields(view: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Number, begin and end of the value, wire type; the tag begins where the one before ended."""
    place, size = 0, len(view)
    while place < size:
        tag, place = _varint(view, place)
        wire, begin = tag & 7, place
        if wire == _VARINT:
            _, place = _varint(view, place)
        elif wire == _BYTES:
            length, begin = _varint(view, place)
            place = begin + length
        elif wire == _FIXED64:
            place += 8
        elif wire == _FIXED32:
            place += 4
        else:
            raise BlobDamaged("unknown wire type")
        if place > size:
            raise BlobDamaged("it ends in the middle of a field")
        yield tag >> 3, begin, place, wire


def _varint(view: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    for offset in range(place, min(place + _MAX_VARINT_BYTES, len(view))):
        byte = view[offset]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset + 1
        shift += 7
    raise BlobDamaged("a number does not end")


def _field(number: int, value: bytes | bytearray | memoryview) -> bytes:
    return b"".join((_number(number << 3 | _BYTES), _number(len(value)), value))


def _number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
