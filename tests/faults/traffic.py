"""A steady flow: customers write to every account, and its owners write to every customer."""

from __future__ import annotations

import random
import secrets
import time
import uuid
from collections import Counter
from contextlib import suppress

import anyio
import anyio.to_thread
import httpx
import psycopg
from postgrest import APIError

from tests.faults.ledger import Chat, Note, Way
from tests.faults.world import World

RETRY_S = 0.2
LOOK_EVERY_S = 0.5
MOST_OPEN = 10
"""Nobody goes on writing to a chat in which so many texts wait: a busy machine never catches up."""
TRIED_S = 8.0
_DUPLICATE = "23505"


class Traffic:
    """Runs until `stop`; every text that it began to write is handed over before it ends."""

    def __init__(self, world: World, step: int, dice: random.Random) -> None:
        self._world = world
        self._step = step
        self._dice = dice
        self._stopping = anyio.Event()
        self._written = 0
        self._open: Counter[tuple[Chat, Way]] = Counter()

    def stop(self) -> None:
        """No new texts."""
        self._stopping.set()

    async def run(self) -> None:
        """One writer a chat and direction, so that the order of a chat is that of writing."""
        async with anyio.create_task_group() as looking:
            looking.start_soon(self._look)
            async with anyio.create_task_group() as writers:
                for chat in self._world.chats:
                    for way in Way:
                        writers.start_soon(self._write, chat, way)
            looking.cancel_scope.cancel()

    async def _look(self) -> None:
        """How many texts of each chat wait, as far as the database can be asked."""
        while True:
            with suppress(psycopg.OperationalError):
                ended = await self._world.ended_texts()
                self._open = Counter(
                    (note.chat, note.way)
                    for note in self._world.ledger.of_step(self._step)
                    if note.text not in ended
                )
            await anyio.sleep(LOOK_EVERY_S)

    async def _write(self, chat: Chat, way: Way) -> None:
        pace_s = self._world.size.pace_s
        while not self._stopping.is_set():
            with anyio.move_on_after(self._dice.uniform(0, 2 * pace_s)):
                await self._stopping.wait()
                return
            if self._open[chat, way] >= MOST_OPEN:
                continue
            self._written += 1
            self._open[chat, way] += 1
            text = f"{way} {self._step}.{self._written} {secrets.token_hex(4)}"
            note = Note(chat, way, text, self._step, time.time())
            self._world.ledger.notes.append(note)
            await (self._receive(note) if way is Way.IN else self._send(note))

    async def _receive(self, note: Note) -> None:
        """The customer's phone writes to the account's number."""
        shop = self._world.shop_of(note.chat.account)
        await anyio.to_thread.run_sync(
            lambda: self._world.simulator.send_text(
                note.chat.customer, to=shop.number, text=note.text
            )
        )

    async def _send(self, note: Note) -> None:
        """A frontend inserts a command; with a key, so that it may try until it is told yes."""
        row = {
            "integration_account_id": note.chat.account,
            "type": "send",
            "payload": {"to": f"+{note.chat.customer}", "type": "text", "text": note.text},
            "idempotency_key": str(uuid.uuid4()),
        }
        table = self._world.frontend.client.table("commands")
        while True:
            try:
                with anyio.fail_after(TRIED_S):
                    await table.insert(row).execute()
            except APIError as refused:
                if refused.code == _DUPLICATE:
                    return  # an earlier try came through, and only its answer did not
            except (httpx.HTTPError, TimeoutError):
                pass
            else:
                return
            await anyio.sleep(RETRY_S)
