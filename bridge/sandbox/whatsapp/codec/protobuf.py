"""Protobuf's wire format, without schemas.

The simulator touches a few dozen fields, so it names them by number where it uses them instead of
carrying generated code. This also keeps it apart from the descriptor pool of a client library that
may live in the same process.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

Scalar = int | bool | str | bytes | float
Value = Scalar | None | Sequence[Scalar]

_MAX_VARINT_BYTES = 10


class ProtobufError(ValueError):
    """The bytes are not a well-formed protobuf message, or a field has another type."""


def varint(value: int) -> bytes:
    """Encode an integer; negative ones as 64-bit two's complement, like protobuf's int64."""
    if value < 0:
        value += 1 << 64
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(*fields: tuple[int, Value]) -> bytes:
    """Encode ``(number, value)`` pairs in the order given.

    bool and int become varints, float a double, str and bytes length-delimited; a list repeats its
    field and ``None`` is left out.
    """
    out = bytearray()
    for number, value in fields:
        if value is None:
            continue
        items = [value] if isinstance(value, int | str | bytes | float) else value
        for item in items:
            if isinstance(item, int):
                out += varint(number << 3) + varint(int(item))
            elif isinstance(item, float):
                out += varint(number << 3 | 1) + struct.pack("<d", item)
            else:
                raw = item.encode() if isinstance(item, str) else item
                out += varint(number << 3 | 2) + varint(len(raw)) + raw
    return bytes(out)


class Fields:
    """A decoded message. A field that is absent reads as its protobuf default."""

    def __init__(self, values: dict[int, list[int | bytes]]) -> None:
        self._values = values

    def __contains__(self, number: int) -> bool:
        return number in self._values

    def numbers(self) -> list[int]:
        """Numbers of the fields that are present, in the order of their first appearance."""
        return list(self._values)

    def all_bytes(self, number: int) -> list[bytes]:
        """Every value of a repeated length-delimited field."""
        found = self._values.get(number, [])
        out = [value for value in found if isinstance(value, bytes)]
        if len(out) != len(found):
            raise ProtobufError(f"field {number} is a number, not bytes")
        return out

    def bytes_(self, number: int) -> bytes:
        """The last value of a length-delimited field."""
        values = self.all_bytes(number)
        return values[-1] if values else b""

    def integer(self, number: int) -> int:
        """The last value of a numeric field, unsigned."""
        value = (self._values.get(number) or [0])[-1]
        if isinstance(value, bytes):
            raise ProtobufError(f"field {number} is bytes, not a number")
        return value

    def double(self, number: int) -> float:
        """The last value of a double field."""
        value: float = struct.unpack("<d", self.integer(number).to_bytes(8, "little"))[0]
        return value

    def text(self, number: int) -> str:
        """The last value of a string field."""
        try:
            return self.bytes_(number).decode()
        except UnicodeDecodeError as error:
            raise ProtobufError(f"field {number} is not UTF-8") from error

    def sub(self, number: int) -> Fields:
        """The last value of a message field; empty when absent."""
        return decode(self.bytes_(number))

    def subs(self, number: int) -> list[Fields]:
        """Every value of a repeated message field."""
        return [decode(raw) for raw in self.all_bytes(number)]


def decode(data: bytes) -> Fields:
    """Decode one message.

    :raises ProtobufError: if it is cut short or uses a wire type that protobuf does not know.
    """
    values: dict[int, list[int | bytes]] = {}
    position = 0
    while position < len(data):
        key, position = _varint_at(data, position)
        number, wire_type = key >> 3, key & 7
        value: int | bytes
        if number == 0:
            raise ProtobufError("field number 0")
        if wire_type == 0:
            value, position = _varint_at(data, position)
        elif wire_type in (1, 2, 5):
            if wire_type == 2:
                size, position = _varint_at(data, position)
            else:
                size = 8 if wire_type == 1 else 4
            raw = data[position : position + size]
            if len(raw) != size:
                raise ProtobufError("message is cut short")
            position += size
            value = raw if wire_type == 2 else int.from_bytes(raw, "little")
        else:
            raise ProtobufError(f"unknown wire type {wire_type}")
        values.setdefault(number, []).append(value)
    return Fields(values)


def _varint_at(data: bytes, position: int) -> tuple[int, int]:
    result = 0
    for count in range(_MAX_VARINT_BYTES):
        if position >= len(data):
            raise ProtobufError("message is cut short")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return result & (1 << 64) - 1, position
    raise ProtobufError("number is longer than 64 bits")
