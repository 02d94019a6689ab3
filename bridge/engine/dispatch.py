"""How one message leaves: to whom exactly, in its turn, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from bridge.engine import outcome
from bridge.engine.asking import Asker
from bridge.engine.barrier import Barrier
from bridge.engine.sender import Job
from bridge.engine.spelling import other_numbers, person_found
from bridge.engine.turns import Turns
from bridge.engine.whatsapp import compose
from bridge.engine.whatsapp.client import Client, RequestFailed
from bridge.errors import CommandError
from bridge.events import Person, PersonSeen, SendSucceeded, SpooledEvent
from bridge.ids import Jid, is_group
from bridge.orders import CheckNumbers


class Dispatch:
    """One a session; `send` is called in the sender's thread only."""

    def __init__(
        self, client: Client, asker: Asker, turns: Turns, spool: Callable[[SpooledEvent], bool]
    ) -> None:
        self._client = client
        self._asker = asker
        self._turns = turns
        self._spool = spool
        self._barrier: Barrier | None = None
        self._told_lids: set[Jid] = set()

    def hold_with(self, barrier: Barrier) -> None:
        """Strict mode; before the first message."""
        self._barrier = barrier

    def send(self, job: Job) -> SpooledEvent:
        """Blocks; gives the outcome."""
        to = self._spelt_right(job.to)
        message = compose.message_of(job.order, to)
        self._turns.begin_send()
        if self._barrier is not None:
            self._barrier.begin_send(job.command_id)
        try:
            with self._asker.entering():
                sent = self._client.send(to, message)
        except CommandError:
            return outcome.SESSION_OVER.of(job.command_id)
        except RequestFailed as error:
            refusal = outcome.refusal_of(str(error), in_group=is_group(job.to))
            if refusal.outcome_unknown and self._barrier and not self._barrier.may_have_left:
                refusal = outcome.NOT_CONNECTED
            return refusal.of(job.command_id)
        finally:
            self._turns.end_send()
            if self._barrier is not None:
                self._barrier.end_send()
        self._tell_lid_of(to)
        return SendSucceeded(command_id=job.command_id, id=sent.id, sent_at=sent.sent_at)

    def _spelt_right(self, to: Jid) -> Jid:
        """Under which of the Brazilian spellings WhatsApp has somebody new."""
        both, found = other_numbers(to), None
        if both and self._asker.lid_of(to) is None:
            with suppress(CommandError, RequestFailed), self._asker.entering():
                found = person_found(self._client.do(CheckNumbers(numbers=both)))
        if found is None or found.phone_jid in (None, to):
            return to  # as it was given; sending says what is wrong
        self._spool(PersonSeen(person=found))
        return found.phone_jid

    def _tell_lid_of(self, to: Jid) -> None:
        """WhatsApp answers from the LID: say whose it is, or receipts would find nobody."""
        lid = self._asker.lid_of(to)
        if lid is not None and lid not in self._told_lids:
            self._told_lids.add(lid)
            self._spool(PersonSeen(person=Person(phone_jid=to, lid=lid)))
