"""The replication stream: batches of changes as they commit.

psycopg has no replication API, but its wrapper of libpq is enough: the stream is a COPY in both
directions. The slot is temporary, so changes made while nobody listens are lost, as upstream.
"""

from __future__ import annotations

import struct
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.to_thread
from psycopg import pq

from bridge.sandbox.pool import connected
from bridge.sandbox.realtime.pgoutput import EPOCH, Change, Decoder

STATUS_INTERVAL_S = 5.0
"""The server ends a stream that does not report for a minute."""


class ReplicationEnded(Exception):
    """The stream broke off."""


async def read_changes(
    url: str, publications: Sequence[str], *, started: anyio.Event
) -> AsyncGenerator[list[Change], None]:
    """Batches of changes, in commit order; everything that arrived together is one batch.

    Args:
        url: connects as a role that may replicate.
        publications: those that exist are read.
        started: set once no later change can be missed.

    Raises:
        ReplicationEnded: when the server ends it.
    """
    names = await _existing(url, publications)
    # In a thread: a slot begins when the transactions of now have ended, and those of requests end
    # only if this loop goes on.
    connection = await anyio.to_thread.run_sync(_started, url, names)
    try:
        stream = _Stream(connection)
        async with aclosing(stream.batches(started)) as batches:
            async for batch in batches:
                yield batch
    finally:
        connection.finish()


async def _existing(url: str, publications: Sequence[str]) -> list[str]:
    query = b"select pubname from pg_publication where pubname = any(%s)"
    async with connected(url) as connection:
        cursor = await connection.execute(query, [list(publications)])
        return [name for (name,) in await cursor.fetchall()]


def _started(url: str, publications: Sequence[str]) -> Any:
    connection: Any = pq.PGconn.connect(f"{url}?replication=database".encode())
    try:
        _start(connection, publications)
    except BaseException:
        connection.finish()
        raise
    return connection


def _start(connection: Any, publications: Sequence[str]) -> None:
    if connection.status != pq.ConnStatus.OK:
        raise ReplicationEnded(connection.get_error_message())
    slot = f"sandbox_{uuid.uuid4().hex[:12]}"
    make_slot = f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'nothing')"
    result = connection.exec_(make_slot.encode())
    if result.status != pq.ExecStatus.TUPLES_OK:
        raise ReplicationEnded(result.error_message.decode())
    connection.nonblocking = 1
    connection.send_query(
        f'START_REPLICATION SLOT "{slot}" LOGICAL 0/0 '
        f"(proto_version '1', publication_names '{','.join(publications)}')".encode()
    )


class _Stream:
    """The COPY of one connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._decoder = Decoder()
        self._position = 0
        self._reported_at = 0.0

    async def batches(self, started: anyio.Event) -> AsyncGenerator[list[Change], None]:
        connection = self._connection
        copying = False
        while True:
            with anyio.move_on_after(STATUS_INTERVAL_S):
                await anyio.wait_readable(connection.socket)
            connection.consume_input()
            if not copying:
                if connection.is_busy():
                    continue
                result = connection.get_result()
                if result.status != pq.ExecStatus.COPY_BOTH:
                    raise ReplicationEnded(result.error_message.decode())
                copying = True
                started.set()
            batch = self._received()
            if batch:
                yield batch
            if time.monotonic() - self._reported_at > STATUS_INTERVAL_S:
                self._report()

    def _received(self) -> list[Change]:
        """Everything that has arrived and is complete."""
        batch: list[Change] = []
        while True:
            length, data = self._connection.get_copy_data(1)
            if length == 0:
                return batch
            if length < 0:
                raise ReplicationEnded(self._connection.get_error_message())
            message = bytes(data)
            (position,) = struct.unpack_from("!Q", message, 1)
            self._position = max(self._position, position)
            if message[:1] == b"w":  # a message of the stream
                change = self._decoder.feed(message[25:])
                if change is not None:
                    batch.append(change)
            elif message[:1] == b"k" and message[17]:  # the server wants to hear from us
                self._report()

    def _report(self) -> None:
        """Tell the server how far we are, so that it can forget what is before."""
        self._reported_at = time.monotonic()
        now_us = int((datetime.now(UTC) - EPOCH).total_seconds() * 1e6)
        position = self._position
        report = struct.pack("!cQQQqB", b"r", position, position, position, now_us, 0)
        self._connection.put_copy_data(report)
        self._connection.flush()
