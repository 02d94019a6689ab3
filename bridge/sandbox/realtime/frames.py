"""Both versions of the Phoenix protocol, as messages. Pure.

Version 1 (supabase-py) sends JSON objects, version 2 (supabase-js) JSON arrays, and its broadcasts
as binary frames, which can carry bytes too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

USER_BROADCAST_PUSH = 3
USER_BROADCAST = 4
ENCODING_BINARY, ENCODING_JSON = 0, 1


class BadFrame(ValueError):
    """Not a message of either version."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message from a client."""

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: dict[str, Any]


def decode_text(text: str) -> Message:
    """A text frame of either version.

    Raises:
        BadFrame: if it is neither.
    """
    try:
        given = json.loads(text)
        if isinstance(given, list):
            join_ref, ref, topic, event, payload = given
        else:
            join_ref, ref = given.get("join_ref"), given.get("ref")
            topic, event, payload = given["topic"], given["event"], given.get("payload")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadFrame("not a Phoenix message") from error
    if not (isinstance(topic, str) and isinstance(event, str)):
        raise BadFrame("topic and event must be text")
    return Message(join_ref, ref, topic, event, payload if isinstance(payload, dict) else {})


def decode_binary(data: bytes) -> Message:
    """A broadcast in a binary frame.

    Raises:
        BadFrame: if it is of another kind, or too short.
    """
    if len(data) < 7 or data[0] != USER_BROADCAST_PUSH:
        raise BadFrame("unknown binary frame")
    lengths, encoding = data[1:6], data[6]
    offset = 7
    words = []
    try:
        for length in lengths:
            words.append(data[offset : offset + length].decode())
            offset += length
        body = data[offset:]
        payload = json.loads(body) if encoding == ENCODING_JSON else body
    except ValueError as error:
        raise BadFrame("malformed binary frame") from error
    join_ref, ref, topic, event, _metadata = words
    broadcast = {"type": "broadcast", "event": event, "payload": payload}
    return Message(join_ref or None, ref or None, topic, "broadcast", broadcast)


def encode(
    version: int,
    topic: str,
    event: str,
    payload: dict[str, Any],
    ref: str | None = None,
    join_ref: str | None = None,
) -> str:
    """A message to a client. Version 1 has no place for `join_ref`."""
    if version == 2:
        return dumps([join_ref, ref, topic, event, payload])
    return dumps({"event": event, "payload": payload, "ref": ref, "topic": topic})


def encode_broadcast(
    topic: str, event: str, payload: dict[str, Any] | bytes, metadata: dict[str, Any] | None
) -> bytes:
    """A broadcast to a client of version 2."""
    is_bytes = isinstance(payload, bytes)
    body = payload if isinstance(payload, bytes) else dumps(payload).encode()
    parts = [topic.encode(), event.encode(), dumps(metadata).encode() if metadata else b""]
    header = [USER_BROADCAST, *map(len, parts), ENCODING_BINARY if is_bytes else ENCODING_JSON]
    return bytes(header) + b"".join(parts) + body


def dumps(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
