"""Sends one account's messages one after another, in a thread of its own, journaling outcomes.

`SendStarted` is in the spool before WhatsApp sees anything, and the outcome follows. So a started
send without an outcome, found after a crash, may have left; one that never started did not. Between
them comes `SendNamed`: by its id a receipt can tell later that a message without an outcome left.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from bridge.engine import outcome
from bridge.engine.outcome import Refusal
from bridge.events import SendNamed, SendStarted, SpooledEvent
from bridge.ids import CommandId, Jid, WhatsAppMessageId
from bridge.orders import Outgoing

MAX_QUEUED = 1000


@dataclass(frozen=True, slots=True)
class Job:
    """One message to be sent."""

    command_id: CommandId
    to: Jid
    order: Outgoing


class Sender:
    """One an account."""

    def __init__(
        self,
        send: Callable[[Job], SpooledEvent],
        hindrance: Callable[[], Refusal | None],
        spool: Callable[[SpooledEvent], bool],
        holds: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            send: sends and gives the outcome. Blocks.
            hindrance: why nothing can be sent at the moment.
            spool: journals; gives False when the journal is closed.
            holds: whether messages are held back until it is journaled that they leave.
        """
        self._send = send
        self._hindrance = hindrance
        self._spool = spool
        self._holds = holds
        self._lock = threading.Lock()
        self._ended = False
        self._in_hand: Job | None = None
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def put(self, job: Job) -> None:
        """Send after what is queued already.

        :raises CommandError: retryable, if it cannot be taken.
        """
        with self._lock:
            if self._ended:
                raise outcome.SESSION_OVER.error()
            if self._jobs.qsize() >= MAX_QUEUED:
                raise outcome.BUSY.error()
            self._jobs.put(job)

    def name(self, message_id: WhatsAppMessageId) -> None:
        """A message is about to be written; ours, if this is called in the thread that sends."""
        job = self._in_hand
        if job is not None and threading.get_ident() == self._thread.ident:
            self._spool(SendNamed(command_id=job.command_id, id=message_id))

    def end(self, timeout_s: float) -> None:
        """Give back what was not begun, and wait for what was. Idempotent."""
        with self._lock:
            if not self._ended:
                self._ended = True
                self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            hindrance = outcome.SESSION_OVER if self._ended else self._hindrance()
            if hindrance is not None:
                self._spool(hindrance.of(job.command_id))
            elif self._spool(SendStarted(command_id=job.command_id, held=self._holds())):
                self._spool(self._outcome(job))

    def _outcome(self, job: Job) -> SpooledEvent:
        self._in_hand = job
        try:
            return self._send(job)
        except Exception:  # noqa: BLE001 - a command's barrier: the next ones must go on
            return outcome.NO_ANSWER.of(job.command_id)
        finally:
            self._in_hand = None
