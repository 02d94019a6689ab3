"""Asks the parent for checkpoints, and waits for its answers: the engine's end of strict mode."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from bridge.engine import frames

PARENT_ANSWERS_S = 10.0


class Questions:
    """Of one session, one at a time. Implements `bridge.engine.barrier.Checkpoints`."""

    def __init__(self, session: int, send: Callable[[frames.ToParent], None]) -> None:
        self._session = session
        self._send = send
        self._number = 0
        self._done: bool | None = None
        self._answered = threading.Condition()

    def copy(self) -> bool:
        """Take a copy of the session file."""
        self._number += 1
        return self._ask(frames.Copy(session=self._session, number=self._number))

    def commit(self, leaving: Sequence[frames.Leaving], *, copy_first: bool) -> bool:
        """Make it the checkpoint."""
        self._number += 1
        return self._ask(
            frames.Commit(
                session=self._session,
                number=self._number,
                copy_first=copy_first,
                leaving=[*leaving],
            )
        )

    def take(self, answer: frames.Done) -> None:
        """The parent answered."""
        with self._answered:
            if answer.number == self._number:
                self._done = answer.done
                self._answered.notify_all()

    def _ask(self, question: frames.Copy | frames.Commit) -> bool:
        with self._answered:
            self._done = None
        self._send(question)
        with self._answered:
            self._answered.wait_for(lambda: self._done is not None, PARENT_ANSWERS_S)
            return bool(self._done)
