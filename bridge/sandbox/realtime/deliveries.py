"""A batch of changes becomes messages: who gets which row, with which columns, in commit order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import psycopg
from loguru import logger
from psycopg.sql import SQL, Identifier

from bridge.sandbox.pool import Connection
from bridge.sandbox.realtime import frames
from bridge.sandbox.realtime.channels import Channel, Channels, Subscription
from bridge.sandbox.realtime.filters import filter_sql
from bridge.sandbox.realtime.permissions import Caller, Permissions, TableFacts
from bridge.sandbox.realtime.pgoutput import Change, Relation, Values

JSON_TYPES = {114, 3802}
MAX_RECORD_BYTES = 1024 * 1024
SMALL_VALUE = 64
"""Characters of a value that is still sent when the whole row is too large."""

AT_ONCE = 500
"""Rows that go into one SQL statement."""

VISIBILITY_TRIES = 1000
"""A millisecond apart; a commit is visible after a fraction of one."""

Watchers = Sequence[tuple[Subscription, Channel]]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One row for one channel, with the ids of the subscriptions it matches."""

    channel: Channel
    data: dict[str, Any]
    ids: list[int]


@dataclass(frozen=True, slots=True)
class _Row:
    """A change with its values as JSON, and the filters it passes."""

    change: Change
    new: dict[str, Any]
    old: dict[str, Any] | None
    is_large: bool
    passes: dict[str, bool]


@dataclass(slots=True)
class Deliveries:
    """Works out who gets what.

    Attributes:
        connection: of a superuser: casts rows and evaluates filters, reads no table.
    """

    connection: Connection
    permissions: Permissions
    channels: Channels
    delivered: int = field(default=0, init=False)

    async def of(self, batch: Sequence[Change]) -> list[Delivery]:
        """Everything that the batch is to be told to whom, in commit order."""
        by_table: dict[int, list[tuple[int, Change]]] = {}
        for position, change in enumerate(batch):
            relation = change.relation
            if self.channels.watching(relation.schema, relation.table):
                by_table.setdefault(relation.oid, []).append((position, change))
        if by_table:
            await self._until_visible({change.transaction for change in batch})
        found: list[tuple[int, Delivery]] = []
        for changes in by_table.values():
            for start in range(0, len(changes), AT_ONCE):
                part = changes[start : start + AT_ONCE]
                try:
                    deliveries = await self._of_table([change for _, change in part])
                except (psycopg.Error, LookupError) as error:
                    # the table was changed or dropped since: nobody can be shown these rows
                    table = part[0][1].relation.table
                    logger.warning("changes were not delivered", table=table, error=str(error))
                    continue
                found += [(part[index][0], delivery) for index, delivery in deliveries]
        found.sort(key=lambda item: item[0])
        return [delivery for _, delivery in found]

    async def _until_visible(self, transactions: set[int]) -> None:
        """Wait until everybody sees what was committed.

        The stream has a commit as soon as it is in the log, which is a moment before other
        sessions see it: policies would hide the row, and a client that looks at once would miss it.
        """
        query = (
            b"select bool_and(pg_visible_in_snapshot(id::text::xid8, pg_current_snapshot()))"
            b" from unnest(%s::bigint[]) id"
        )
        for _ in range(VISIBILITY_TRIES):
            cursor = await self.connection.execute(query, [list(transactions)])
            if await cursor.fetchone() == (True,):
                return
            await anyio.sleep(0.001)
        logger.warning("a commit stayed invisible", transactions=len(transactions))

    async def _of_table(self, changes: Sequence[Change]) -> list[tuple[int, Delivery]]:
        relation = changes[0].relation
        watchers = self.channels.watching(relation.schema, relation.table)
        if not watchers:
            return []
        name = Identifier(relation.schema, relation.table)
        facts = await self.permissions.facts(relation.oid, name)
        filters = list({one.filter for one, _ in watchers if one.filter})
        rows, new_texts = await self._cast(facts, changes, filters)
        seen = await self._who_sees(facts, changes, watchers, new_texts)
        deliveries: list[tuple[int, Delivery]] = []
        for caller, visible in seen.items():
            readable = await self.permissions.readable_columns(relation.oid, facts, caller[0])
            problem = _problem(facts, readable)
            mine = [item for item in watchers if item[1].caller == caller]
            for index, row in enumerate(rows):
                if index not in visible:
                    continue
                for (channel, columns), ids in _matching(row, mine).items():
                    data = _data(facts, row, readable, columns, problem)
                    deliveries.append((index, Delivery(channel, data, ids)))
        return deliveries

    async def _cast(
        self, facts: TableFacts, changes: Sequence[Change], filters: Sequence[str]
    ) -> tuple[list[_Row], list[str]]:
        """PostgreSQL turns text values into JSON, and says which filters they pass."""
        new = [_as_json_text(one.relation, one.new) for one in changes]
        old = [_as_json_text(one.relation, one.old) for one in changes]
        tests = [SQL("coalesce({}, false)").format(filter_sql(text, "r")) for text in filters]
        query = SQL(
            "select to_jsonb(r)::text, to_jsonb(o)::text, array[{tests}]::boolean[]"
            " from unnest(%s::text[], %s::text[])"
            " with ordinality a(new_text, old_text, place),"
            " lateral jsonb_populate_record("
            "  null::{table}, coalesce(a.new_text, a.old_text)::jsonb) r,"
            " lateral jsonb_populate_record(null::{table}, a.old_text::jsonb) o order by place"
        ).format(table=facts.name, tests=SQL(",").join(tests))
        cursor = await self.connection.execute(query, [new, old])
        rows = []
        for change, (new_text, old_text, passes) in zip(
            changes, await cursor.fetchall(), strict=True
        ):
            is_large = len(new_text) > MAX_RECORD_BYTES
            rows.append(
                _Row(
                    change,
                    json.loads(new_text),
                    json.loads(old_text) if change.old is not None else None,
                    is_large,
                    dict(zip(filters, passes, strict=True)),
                )
            )
        return rows, [text or "{}" for text in new]

    async def _who_sees(
        self,
        facts: TableFacts,
        changes: Sequence[Change],
        watchers: Watchers,
        new_texts: Sequence[str],
    ) -> dict[Caller, set[int]]:
        """Callers with the indexes of the changes they see. Deletions show only a key, to all."""
        callers = list(dict.fromkeys(channel.caller for _, channel in watchers))
        everything = set(range(len(changes)))
        if not facts.has_row_security or not facts.primary_key:
            return dict.fromkeys(callers, everything)
        kept = [index for index, change in enumerate(changes) if change.verb != "DELETE"]
        deleted = everything - set(kept)
        if not kept:
            return dict.fromkeys(callers, deleted)
        rows = [new_texts[index] for index in kept]
        visible = await self.permissions.visible_rows(facts, callers, rows)
        return {
            caller: {kept[index] for index in indexes} | deleted
            for caller, indexes in zip(callers, visible, strict=True)
        }


def _matching(row: _Row, watchers: Watchers) -> dict[tuple[Channel, frozenset[str]], list[int]]:
    """The channels whose subscriptions the row matches, one entry per set of columns."""
    found: dict[tuple[Channel, frozenset[str]], list[int]] = {}
    for one, channel in watchers:
        if one.event in {"*", row.change.verb} and (not one.filter or row.passes[one.filter]):
            found.setdefault((channel, one.columns), []).append(one.id)
    return found


def _problem(facts: TableFacts, readable: frozenset[str]) -> str | None:
    """Why a caller gets no values at all of this table."""
    if not facts.primary_key:
        return "Error 400: Bad Request, no primary key"
    if not set(facts.primary_key) <= readable:
        return "Error 401: Unauthorized"
    return None


def _data(
    facts: TableFacts,
    row: _Row,
    readable: frozenset[str],
    chosen: frozenset[str],
    problem: str | None,
) -> dict[str, Any]:
    change = row.change
    data: dict[str, Any] = {
        "schema": change.relation.schema,
        "table": change.relation.table,
        "type": change.verb,
        "commit_timestamp": change.committed_at,
    }
    if problem is not None:
        return data | {"columns": [], "errors": [problem]}
    key = set(facts.primary_key)

    def keeps(name: str) -> bool:
        return name in readable and (not chosen or name in chosen or name in key)

    def values(source: dict[str, Any], sent: Values | set[str]) -> dict[str, Any]:
        return {
            name: value
            for name, value in source.items()
            if name in sent and keeps(name) and (not row.is_large or _is_small(value))
        }

    data["columns"] = [
        {"name": name, "type": kind} for name, kind in facts.types.items() if keeps(name)
    ]
    data["errors"] = ["Error 413: Payload Too Large"] if row.is_large else None
    if change.verb != "DELETE":
        data["record"] = values(row.new, change.new or {})
    if change.verb == "UPDATE":
        data["old_record"] = (
            values(row.old, change.old or {}) if row.old is not None else values(row.new, key)
        )
    if change.verb == "DELETE":
        sent = set(change.old or {})
        # who sees a deletion is not checked, so nothing but the key is told
        data["old_record"] = values(row.old or {}, sent & key if facts.has_row_security else sent)
    return data


def _is_small(value: object) -> bool:
    return len(frames.dumps(value)) <= SMALL_VALUE


def _as_json_text(relation: Relation, values: Values | None) -> str | None:
    """A JSON object whose values `jsonb_populate_record` casts with the types' input functions."""
    if values is None:
        return None
    json_columns = {column.name for column in relation.columns if column.type_oid in JSON_TYPES}
    members = []
    for name, value in values.items():
        is_json = value is not None and name in json_columns
        members.append(f"{frames.dumps(name)}:{value if is_json else frames.dumps(value)}")
    return "{" + ",".join(members) + "}"
