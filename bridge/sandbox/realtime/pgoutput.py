"""Decodes PostgreSQL's logical replication messages (`pgoutput`, protocol version 1). Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""PostgreSQL counts microseconds from here."""

Values = dict[str, str | None]
"""Column → value in PostgreSQL's text form. A column whose value was not sent is missing."""

VERBS = {b"I": "INSERT", b"U": "UPDATE", b"D": "DELETE"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a relation; `is_key` if it is part of the replica identity."""

    name: str
    type_oid: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as the stream describes it; announced anew after each change of it."""

    oid: int
    schema: str
    table: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One row that was inserted, updated or deleted.

    Attributes:
        old: the replica identity (all columns if it is FULL) of an updated or deleted row, as far
            as the stream has it.
        committed_at: of the transaction, ISO 8601 in UTC.
        transaction: its id, without the epoch.
    """

    relation: Relation
    verb: str
    committed_at: str
    transaction: int
    new: Values | None
    old: Values | None


@dataclass(slots=True)
class Decoder:
    """Turns messages into changes; remembers relations and the current transaction's time."""

    _relations: dict[int, Relation] = field(default_factory=dict)
    _committed_at: str = ""
    _transaction: int = 0

    def feed(self, message: bytes) -> Change | None:
        """The change that a message is, or None for those that only describe."""
        kind = message[:1]
        if kind == b"B":
            microseconds, self._transaction = struct.unpack_from("!qI", message, 9)
            moment = EPOCH + timedelta(microseconds=microseconds)
            self._committed_at = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        elif kind == b"R":
            relation = _relation(message)
            self._relations[relation.oid] = relation
        elif kind in VERBS:
            return self._change(kind, message)
        return None

    def _change(self, kind: bytes, message: bytes) -> Change:
        relation = self._relations[struct.unpack_from("!I", message, 1)[0]]
        offset = 5
        old: Values | None = None
        new: Values | None = None
        marker = message[offset : offset + 1]
        if marker in {b"K", b"O"}:
            old, offset = _tuple(message, offset + 1, relation, keys_only=marker == b"K")
        if kind != b"D":
            new, _ = _tuple(message, offset + 1, relation, keys_only=False)
            if old:  # what was not sent again (TOAST) has not changed
                new = {
                    column.name: new[column.name] if column.name in new else old[column.name]
                    for column in relation.columns
                    if column.name in new or column.name in old
                }
        return Change(relation, VERBS[kind], self._committed_at, self._transaction, new, old)


def _relation(message: bytes) -> Relation:
    (oid,) = struct.unpack_from("!I", message, 1)
    schema, offset = _text(message, 5)
    table, offset = _text(message, offset)
    (count,) = struct.unpack_from("!h", message, offset + 1)
    offset += 3
    columns = []
    for _ in range(count):
        flags = message[offset]
        name, offset = _text(message, offset + 1)
        (type_oid,) = struct.unpack_from("!I", message, offset)
        offset += 8
        columns.append(Column(name, type_oid, bool(flags & 1)))
    return Relation(oid, schema or "pg_catalog", table, tuple(columns))


def _tuple(
    message: bytes, offset: int, relation: Relation, *, keys_only: bool
) -> tuple[Values, int]:
    (count,) = struct.unpack_from("!h", message, offset)
    offset += 2
    values: Values = {}
    for column in relation.columns[:count]:
        kind = message[offset : offset + 1]
        offset += 1
        value: str | None = None
        if kind in {b"t", b"b"}:
            (length,) = struct.unpack_from("!i", message, offset)
            value = message[offset + 4 : offset + 4 + length].decode()
            offset += 4 + length
        if kind != b"u" and (column.is_key or not keys_only):
            values[column.name] = value
    return values, offset


def _text(message: bytes, offset: int) -> tuple[str, int]:
    end = message.index(b"\0", offset)
    return message[offset:end].decode(), end + 1
