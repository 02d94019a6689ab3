"""Which messages may have changed the session state and are not in the journal yet; pure.

A message comes, is decrypted (one at a time, in order), makes an event for each of its ciphertexts,
and the event is journaled. Between the second and the fourth the state knows more than the journal.
Signs of each step come from different threads; the caller has the lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Arrival:
    """A message on its way into the journal.

    Attributes:
        parts: how many ciphertexts it has; each makes an event, or says that it makes none.
        login: in which connection it came; WhatsApp brings it again in the next.
        begun: it may be decrypted already.
    """

    id: str
    parts: int
    login: int
    begun: bool = False
    left: int = 0

    @property
    def pending(self) -> bool:
        """Something of it is not in the journal yet."""
        return self.left > 0


class Arrivals:
    """All that are on their way, in order of arrival."""

    def __init__(self) -> None:
        self._open: list[Arrival] = []
        self._login = 0

    def logged_in(self) -> None:
        """A new connection: what was queued in the old one is not handled any more."""
        self._login += 1
        self._open = [each for each in self._open if each.begun]

    def received(self, id_: str, parts: int) -> None:
        """A message came."""
        if parts > 0 and id_:
            self._open.append(Arrival(id_, parts, self._login, left=parts))

    def decrypting(self) -> None:
        """The next one is decrypted from now on."""
        for each in self._open:
            if not each.begun:
                each.begun = True
                return

    def done(self, id_: str, *, whole: bool = False) -> bool:
        """A ciphertext is dealt with: its event is in the journal, or there is none.

        Args:
            id_: of the message.
            whole: so are all others of this message.

        Returns:
            False if the sign that its decryption began is missing.
        """
        found = next((each for each in self._open if each.id == id_), None)
        if found is None:
            return True
        began = found.begun
        found.left = 0 if whole else found.left - 1
        if not found.pending:
            self._open.remove(found)
        return began

    def acknowledged(self, id_: str, *, refused: bool) -> None:
        """An answer to a message is about to leave.

        One that was never decrypted, or could not be, makes no event.
        """
        for each in self._open:
            if each.id == id_ and (refused or not each.begun):
                each.left = 0
                self._open.remove(each)
                return

    def begun(self) -> list[Arrival]:
        """Those whose decryption a copy of the state, made before now, may contain."""
        return [each for each in self._open if each.begun]

    def give_up(self, arrivals: Sequence[Arrival]) -> int:
        """No sign of these will come; gives how many of them were in this connection."""
        lost = 0
        for each in arrivals:
            if each in self._open:
                self._open.remove(each)
                lost += each.pending and each.login == self._login
                each.left = 0
        return lost
