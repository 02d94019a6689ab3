"""One engine process as the parent sees it: start, talk, watch, end."""

from __future__ import annotations

import math
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.abc
from loguru import logger

from bridge.engine import frames
from bridge.engine.frames import LEASE_OVER_EXIT
from bridge.engine.session import EngineDied
from bridge.ids import AccountId

if TYPE_CHECKING:
    from bridge.engine.session import Session

# The only lines of a dying Go process that are worth a log: constants of its runtime.
_LAST_WORDS = re.compile(
    rb"^(fatal error: [a-z :]{1,80}|panic: runtime error: [a-z :]{1,80}|SIG[A-Z]+: [a-z ]{1,40})",
    re.MULTILINE,
)
OUTGOING_FRAMES = 1000

# Without it neonize marks direct messages as sent by a bot. It has to be there when the process
# begins: a Go library does not see what its process changes later.
_ENVIRONMENT = ("env", "NEONIZE_BOT_TAG=off")
GRACE_S = 1.0
END_TIMEOUT_S = 14.0

# An engine that leaked so much is replaced when it has no session; worn out, it takes no more. Ten
# points are a parked thread (a pairing that nobody finished), one is a file (any other session).
SPENT = 50
WORN_OUT = 500
# So many times its limit of memory is no time for politeness.
FAR_TOO_LARGE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """How a process is started and watched; see `EngineSettings`."""

    command: Sequence[str]
    start_timeout_s: float
    ping_interval_s: float
    ping_timeout_s: float
    memory_max_bytes: int = 1 << 30


class EngineProcess:
    """Runs inside a task group: `run` is its task, `ready` is set when it is usable, or gone.

    Attributes:
        alive: takes frames.
        ended: `run` is over.
        spent: what it leaked, see `frames.Pong`.
        resident_bytes: its memory, as of the last ping.
    """

    def __init__(
        self,
        settings: ProcessSettings,
        *,
        died: Callable[[list[AccountId]], None] = lambda _: None,
        looked: Callable[[EngineProcess], None] = lambda _: None,
    ) -> None:
        """Prepare; `run` starts it.

        Args:
            settings: how.
            died: told the accounts in it, when it ended without having been asked to.
            looked: called after each of its answers.
        """
        self._settings = settings
        self._died = died
        self._looked = looked
        self._started_at = time.monotonic()
        self.resident_bytes = 0
        self.sessions: dict[int, Session] = {}
        self.ready = anyio.Event()
        self.alive = False
        self.ended = False
        self.spent = 0
        self.pid = 0
        self._outgoing, self._to_write = anyio.create_memory_object_stream[bytes](OUTGOING_FRAMES)
        self._pings = 0
        self._pongs = 0
        self._ending = False
        self._told_to_end = anyio.Event()
        self._given_up = False
        self._last_words = ""
        self._reason = "The engine process ended unexpectedly."

    @property
    def is_spent(self) -> bool:
        """To be replaced as soon as it has no session."""
        return self.spent >= SPENT

    @property
    def is_worn_out(self) -> bool:
        """Takes no more sessions, and those in it move."""
        return self.spent >= WORN_OUT

    @property
    def is_too_large(self) -> bool:
        """Needs more memory than is allowed."""
        return self.resident_bytes > self._settings.memory_max_bytes

    @property
    def age_s(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._started_at

    async def run(self) -> None:
        """Start the process, and be there until it has ended.

        Never raises: what happened is told to the sessions (`Session.die`). Cancelling does
        nothing: sessions must be closed first, and then `end` called, or events in hand are lost.
        """
        with anyio.CancelScope(shield=True):
            try:
                await self._run()
            finally:
                self._outgoing.close()
                self._to_write.close()
                self.alive = False
                self.ended = True
                self.ready.set()

    async def _run(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            process = await anyio.open_process(
                [*_ENVIRONMENT, *self._settings.command, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # Go prints there
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError:
            ours.close()
            theirs.close()
            logger.error("An engine process could not be started")
            return
        theirs.close()
        self.pid = process.pid
        stream = await anyio.abc.UNIXSocketStream.from_socket(ours)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._drain, process, name="engine stderr")
                tasks.start_soon(self._write, stream, name="engine writer")
                tasks.start_soon(self._watch, tasks.cancel_scope, name="engine watch")
                tasks.start_soon(self._limit_end, tasks.cancel_scope, name="engine end")
                await self._read(stream)
                tasks.cancel_scope.cancel()
        finally:
            self.alive = False
            await self._bury(process, stream)

    async def _bury(self, process: anyio.abc.Process, stream: anyio.abc.UNIXSocketStream) -> None:
        """Close the socket, which ends the child; kill it if it does not go."""
        await stream.aclose()
        patient = self._ending and not self._given_up
        with anyio.move_on_after(END_TIMEOUT_S if patient else 0.2):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await process.aclose()
        if not self._ending:
            logger.warning(
                "An engine process ended",
                exit_code=process.returncode,
                sessions=len(self.sessions),
                last_words=self._last_words,
            )
            if process.returncode != LEASE_OVER_EXIT and self.sessions:
                self._died([session.account for session in self.sessions.values()])
        for session in list(self.sessions.values()):
            session.die(EngineDied(self._reason))
        self.sessions.clear()

    async def send(self, frame: frames.ToEngine) -> None:
        """Queue a frame; waits while the engine is slow. Safe to cancel.

        :raises EngineDied: if the process is gone.
        """
        if not self.alive:
            raise EngineDied(self._reason)
        try:
            await self._outgoing.send(frames.encode(frame))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise EngineDied(self._reason) from None

    def end(self) -> None:
        """Let it go: after what is queued, its socket is closed and it ends by itself."""
        self._ending = True
        self.alive = False
        self._outgoing.close()
        self._told_to_end.set()

    # --------------------------------------------------------------------------------- tasks

    async def _write(self, stream: anyio.abc.UNIXSocketStream) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async for data in self._to_write:
                await stream.send(data)
            await stream.send_eof()

    async def _read(self, stream: anyio.abc.UNIXSocketStream) -> None:
        splitter = frames.Splitter()
        try:
            while True:
                for body in splitter.feed(await stream.receive(1 << 16)):
                    self._take(frames.decode_to_parent(body))
        except anyio.EndOfStream:
            return
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return
        except frames.FrameError:
            self._reason = "The engine process spoke another protocol; restart the bridge."
            logger.error("An engine process sent something that is no frame")

    def _take(self, frame: frames.ToParent) -> None:
        match frame:
            case frames.Hello():
                if frame.version != frames.PROTOCOL_VERSION:
                    raise frames.FrameError("Another version.")
                self.alive = True
                logger.info("An engine process is ready", pid=self.pid)
                self.ready.set()
            case frames.Pong():
                self._pongs = max(self._pongs, frame.number)
                self.spent = frame.spent
                self.resident_bytes = _resident_bytes(self.pid)
                self._looked(self)
            case frames.Complaint():
                logger.warning("An engine complains", code=frame.code, sentence=frame.sentence)
            case _:
                session = self.sessions.get(frame.session)
                if session is not None:
                    session.take(frame)

    async def _watch(self, scope: anyio.CancelScope) -> None:
        """End a process that does not say hello or stops answering pings."""
        with anyio.move_on_after(self._settings.start_timeout_s):
            await self.ready.wait()
        if not self.ready.is_set():
            self._give_up(scope, "The engine process did not start in time.")
            return
        while not self._ending:
            self._pings += 1
            asked = self._pings
            with suppress(EngineDied):
                await self.send(frames.Ping(number=asked))
            await anyio.sleep(self._settings.ping_interval_s)
            if self.resident_bytes > FAR_TOO_LARGE * self._settings.memory_max_bytes:
                self._give_up(scope, "The engine process took far too much memory and was killed.")
                return
            waited_s = self._settings.ping_interval_s
            while self._pongs < asked and waited_s < self._settings.ping_timeout_s:
                await anyio.sleep(GRACE_S)
                waited_s += GRACE_S
                if _stands_still(self.pid):
                    break  # it cannot answer
            # if it was us who did not run, the answer is in the socket: read it first
            await anyio.sleep(min(GRACE_S, self._settings.ping_interval_s))
            if self._pongs < asked and not self._ending:
                self._give_up(scope, "The engine process did not answer and was killed.")
                return
        await anyio.sleep(math.inf)

    async def _limit_end(self, scope: anyio.CancelScope) -> None:
        """End a process that does not go when it was told to."""
        await self._told_to_end.wait()
        await anyio.sleep(END_TIMEOUT_S)
        self._give_up(scope, "The engine process did not end in time and was killed.")

    def _give_up(self, scope: anyio.CancelScope, reason: str) -> None:
        self._reason = reason
        self._given_up = True
        logger.warning("An engine process is killed", reason=reason)
        scope.cancel()

    async def _drain(self, process: anyio.abc.Process) -> None:
        """Read stderr, so that it does not block; it may hold numbers, so it goes nowhere."""
        assert process.stderr is not None
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            async for data in process.stderr:
                # the cause is said first, followed by the stacks of all goroutines
                found = _LAST_WORDS.search(data)
                if found and not self._last_words:
                    self._last_words = found[0].decode()


def _resident_bytes(pid: int) -> int:
    """Memory that a process has in RAM; 0 if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _stands_still(pid: int) -> bool:
    """Whether a process was stopped by a signal, or by a debugger."""
    try:
        # the name, in parentheses, may hold anything
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return False
    return state in ("T", "t")
