"""The parent's end of strict mode: copies the session file, and makes copies checkpoints.

The engine asks (`engine.barrier`), one question at a time, because SQLite must not be opened a
second time in its process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

import anyio
import anyio.to_thread
from loguru import logger

from bridge.engine import frames
from bridge.engine.checkpoint import Checkpoint
from bridge.engine.replica import Change, Replica, StateUnreadable
from bridge.errors import BridgeError
from bridge.ids import WhatsAppMessageId

# The engine asks one question and waits; more are leftovers of one that it gave up.
QUESTIONS = 16
# A base costs the whole file, reading many deltas costs a restart its time.
MAX_DELTAS = 5000
MAX_DELTA_BYTES = 8 * 1024 * 1024


class Watches(Protocol):
    """Who sees what reaches the wire (`engine.relay`)."""

    def leaving(self, id_: WhatsAppMessageId, least_bytes: int, most_bytes: int) -> None:
        """A message of this size is written from now on."""


class Committer:
    """One a strict session; `run` is its task, which ends with `close`.

    Attributes:
        ended: nothing is written any more.
    """

    def __init__(
        self,
        *,
        kept: Checkpoint,
        discard: Callable[[], None],
        replica: Replica,
        reply: Callable[[frames.Done], Awaitable[None]],
        wire: Watches | None,
    ) -> None:
        """Prepare.

        Args:
            kept: where checkpoints go.
            discard: deletes it.
            replica: follows the session file, and belongs to this committer alone.
            reply: to the engine.
            wire: sees what the engine writes; None = nobody does.
        """
        self._kept = kept
        self._discard = discard
        self._replica = replica
        self._reply = reply
        self._wire = wire
        self._copy: Change | None = None
        self.ended = anyio.Event()
        self._send, self._questions = anyio.create_memory_object_stream[
            frames.Copy | frames.Commit | frames.NotStrict
        ](QUESTIONS)

    def take(self, frame: frames.Copy | frames.Commit | frames.NotStrict) -> None:
        """The engine asks."""
        with suppress(anyio.WouldBlock, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._send.send_nowait(frame)

    @property
    def kept_bytes(self) -> int:
        """So much was written to the disk for checkpoints."""
        return self._kept.written_bytes

    async def run(self) -> None:
        """Answer until `close`."""
        try:
            async with self._questions:
                async for question in self._questions:
                    await self._take(question)
        finally:
            self._kept.close()
            self._replica.close()
            self.ended.set()

    async def _take(self, question: frames.Copy | frames.Commit | frames.NotStrict) -> None:
        if isinstance(question, frames.NotStrict):
            await anyio.to_thread.run_sync(self._discard)
            return
        done = await self._answer(question)
        with suppress(BridgeError):  # an engine that died asks no more
            await self._reply(
                frames.Done(session=question.session, number=question.number, done=done)
            )

    def close(self) -> None:
        """Nothing more is asked. Idempotent."""
        self._send.close()

    async def _answer(self, question: frames.Copy | frames.Commit) -> bool:
        match question:
            case frames.Copy():
                try:
                    self._copy = await self._replica.snapshot_if_changed()
                except StateUnreadable as fault:
                    logger.warning("The session file could not be copied", code=fault.code)
                    return False
            case frames.Commit():
                if not await self._commit(question):
                    return False
                for each in question.leaving:
                    if self._wire is not None:
                        self._wire.leaving(each.id, each.least_bytes, each.most_bytes)
        return True

    async def _commit(self, question: frames.Commit) -> bool:
        try:
            await anyio.to_thread.run_sync(self._keep, question.copy_first)
        except OSError as fault:
            logger.error("A checkpoint could not be written", error=type(fault).__name__)
            return False
        except StateUnreadable as fault:
            logger.warning("The session file could not be copied", code=fault.code)
            return False
        return True

    def _keep(self, copy_first: bool) -> None:
        """Blocks; in one go, because each change of threads costs a busy machine milliseconds."""
        if copy_first:
            self._copy = self._replica.snapshot_now()
        if self._copy is not None:  # else nothing has changed since the last one
            self._kept.append(self._copy)
            self._replica.acknowledge(self._copy)
            self._copy = None
