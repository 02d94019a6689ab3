"""Faults that somebody asked for: what they do at once, and while they last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from bridge.sandbox.whatsapp.codec.nodes import Node
from bridge.sandbox.whatsapp.network.listener import Listener
from bridge.sandbox.whatsapp.server.session import Session

_DEFAULT_DELAY_S = 1.0
_TEMPORARY_BAN, _OUTDATED, _UNAVAILABLE = 402, 405, 503
_TIMELOCKED, _RATE_LIMITED = 463, 429
_BAN_REASON = 101  # "sent too many messages to people who do not have the number"


class FaultKind(StrEnum):
    """What can go wrong."""

    DROP = "drop"
    REPLACE = "replace"
    BAN = "ban"
    SERVICE_UNAVAILABLE = "service_unavailable"
    OUTDATED = "outdated"
    SLOW = "slow"
    DEAF = "deaf"
    TIMELOCK = "timelock"
    RATE_LIMIT = "rate_limit"


@dataclass(eq=False)
class Fault:
    """One fault.

    Attributes:
        number: whose connections; ``None`` for everybody's.
        ends_at: Unix time; ``None`` until it is cleared.
    """

    kind: FaultKind
    number: str | None
    ends_at: float | None
    delay_s: float = _DEFAULT_DELAY_S

    def concerns(self, number: str | None) -> bool:
        """Whether it holds for connections of that number."""
        return self.number is None or self.number == number


class Faults:
    """The faults of now, applied to connections."""

    def __init__(self, listener: Listener, sessions: Callable[[], Iterable[Session]]) -> None:
        self._listener = listener
        self._sessions = sessions
        self._lasting: list[Fault] = []

    def present(self) -> list[Fault]:
        """Those that last."""
        return list(self._lasting)

    def start(
        self, kind: FaultKind, *, number: str | None, for_s: float | None, delay_s: float | None
    ) -> int:
        """Begin a fault; gives how many connections it met at once.

        `drop` and `replace` without `for_s` happen once. Everything else lasts, without `for_s`
        until it is cleared; new connections meet it as well.
        """
        fault = Fault(kind, number, None if for_s is None else time.time() + for_s)
        if delay_s is not None:
            fault.delay_s = delay_s
        met = [each for each in self._sessions() if fault.concerns(each.number)]
        if for_s is not None or kind not in (FaultKind.DROP, FaultKind.REPLACE):
            self._lasting.append(fault)
        for session in met:
            self._meet(session, fault)
        self._set_listener()
        if for_s is not None:
            asyncio.get_running_loop().call_later(for_s, self.end, fault)
        return len(met)

    def clear(self) -> None:
        """End all faults."""
        for fault in self.present():
            self.end(fault)

    def end(self, fault: Fault) -> None:
        """End one fault (again is harmless)."""
        if fault not in self._lasting:
            return
        self._lasting.remove(fault)
        self._set_listener()
        for session in self._sessions():
            if not fault.concerns(session.number):
                continue
            if fault.kind is FaultKind.SLOW:
                session.delay_s = 0.0
            elif fault.kind is FaultKind.DEAF:
                # what was swallowed cannot be taken back: only a new connection mends it
                session.socket.abort()

    def at_start(self, session: Session) -> None:
        """A connection was made: the faults that change how it behaves."""
        for fault in self._lasting:
            if fault.concerns(session.number):
                if fault.kind is FaultKind.SLOW:
                    session.delay_s = fault.delay_s
                elif fault.kind is FaultKind.DEAF:
                    session.deaf = True

    def refuses(self, session: Session) -> bool:
        """Whether a login (or an unpaired client) is turned away; says so to the client."""
        for fault in self._lasting:
            if not fault.concerns(session.number):
                continue
            match fault.kind:
                case FaultKind.BAN if session.number is not None:
                    left_s = 3600 if fault.ends_at is None else fault.ends_at - time.time()
                    expire = max(1, round(left_s))
                    session.refuse_login(_TEMPORARY_BAN, code=_BAN_REASON, expire=expire)
                case FaultKind.OUTDATED:
                    session.refuse_login(_OUTDATED)
                case FaultKind.SERVICE_UNAVAILABLE:
                    session.refuse_login(_UNAVAILABLE)
                case FaultKind.DROP:
                    session.socket.abort()
                case FaultKind.REPLACE if session.number is not None:
                    session.end_stream(None, Node("conflict", {"type": "replaced"}))
                case _:
                    continue
            return True
        return False

    def refuses_message(self, number: str, *, to_stranger: bool) -> int | None:
        """Why a message of that number is not taken, as WhatsApp's error; None if it is.

        Args:
            number: who sends it.
            to_stranger: to a person who never wrote to the sender.
        """
        for fault in self._lasting:
            if not fault.concerns(number):
                continue
            if fault.kind is FaultKind.RATE_LIMIT:
                return _RATE_LIMITED
            if fault.kind is FaultKind.TIMELOCK and to_stranger:
                return _TIMELOCKED
        return None

    def _meet(self, session: Session, fault: Fault) -> None:
        """An open connection meets a new fault."""
        match fault.kind:
            case FaultKind.REPLACE:
                session.end_stream(None, Node("conflict", {"type": "replaced"}))
            case FaultKind.SERVICE_UNAVAILABLE:
                session.end_stream(_UNAVAILABLE)
            case FaultKind.SLOW:
                session.delay_s = fault.delay_s
            case FaultKind.DEAF:
                session.deaf = True
            case FaultKind.DROP | FaultKind.BAN | FaultKind.OUTDATED:
                session.socket.abort()
            case FaultKind.TIMELOCK | FaultKind.RATE_LIMIT:
                pass  # met by messages, not by connections

    def _set_listener(self) -> None:
        everybody = {fault.kind for fault in self._lasting if fault.number is None}
        self._listener.refusing = FaultKind.SERVICE_UNAVAILABLE in everybody
        if FaultKind.DEAF in everybody:
            self._listener.silent = True
        elif self._listener.silent:
            self._listener.speak_again()
