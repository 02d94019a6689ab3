"""A few database connections that requests share.

Last in, first out, so that the few that are needed stay warm. One that broke is replaced when it is
next wanted. When all are taken, callers wait; PostgREST, Auth and Storage do the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import anyio
import psycopg
from psycopg.rows import dict_row

Connection = psycopg.AsyncConnection[Any]
Row = dict[str, Any]


@dataclass(slots=True)
class Pool:
    """At most `size` connections as one role. Close it with `aclose`."""

    url: str
    size: int = 10
    _idle: list[Connection] = field(default_factory=list, init=False)
    _free: anyio.Semaphore = field(init=False)
    _closed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._free = anyio.Semaphore(self.size)

    async def warm(self, count: int = 2) -> Self:
        """Open some connections now, so that the first callers do not wait."""
        async with AsyncExitStack() as stack:
            for _ in range(count):
                await stack.enter_async_context(self.connection())
        return self

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit mode, given back afterwards."""
        async with self._free:
            connection = self._idle.pop() if self._idle else await self._connect()
            if connection.broken or connection.closed:
                connection = await self._connect()
            try:
                yield connection
            finally:
                usable = not connection.closed and _is_idle(connection)
                if usable and not self._closed:
                    self._idle.append(connection)
                else:
                    with anyio.CancelScope(shield=True):
                        await connection.close()

    async def rows(self, query: str, *values: object) -> list[Row]:
        """All rows of a statement that runs on its own."""
        async with self.connection() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(query.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def row(self, query: str, *values: object) -> Row | None:
        """The first row of a statement that runs on its own."""
        found = await self.rows(query, *values)
        return found[0] if found else None

    async def aclose(self) -> None:
        """Close what is idle now, and the others when they come back."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _connect(self) -> Connection:
        return await connect(self.url)


async def connect(url: str) -> Connection:
    """One connection in autocommit mode."""
    # prepared statements would outlive the schema they were planned for
    return await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=None)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """As `connect`, and closed afterwards.

    psycopg's own block rolls back first, and leaves the connection open if that is cancelled.
    """
    connection = await connect(url)
    try:
        yield connection
    finally:
        with anyio.CancelScope(shield=True):
            await connection.close()


def _is_idle(connection: Connection) -> bool:
    """False for one that a cancelled caller left in the middle of something."""
    return connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
