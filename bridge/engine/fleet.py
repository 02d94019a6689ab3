"""The engine processes of a host: who goes where, and which one is replaced when.

There is always an empty process, started before it is needed: a QR then takes no longer than
WhatsApp's handshake, and accounts whose engine died are back as soon as they have connected. An
engine that leaked too much, or grew too large, is left politely: its accounts move to another one,
one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio
import anyio.abc
from loguru import logger

from bridge.engine.process import EngineProcess, ProcessSettings
from bridge.engine.quarantine import Quarantine
from bridge.engine.session import EngineDied, Session
from bridge.ids import AccountId

# An account that was told to leave closes its session within this time, or stays for now.
LEAVE_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """See `EngineSettings`.

    Attributes:
        spare_after_s: the next empty process is started when nothing happened for so long.
        least_age_s: a younger process is not replaced, however large it is.
    """

    process: ProcessSettings
    accounts_per_engine: int
    spare_after_s: float
    least_age_s: float


class Fleet:
    """Starts, places, retires and ends engine processes; lives in the task group it is given."""

    def __init__(self, settings: FleetSettings) -> None:
        self._settings = settings
        self._quarantine = Quarantine(settings.accounts_per_engine)
        self._engines: list[EngineProcess] = []
        self._starting = anyio.Lock()
        self._retiring: set[EngineProcess] = set()
        self._room_wanted = anyio.Event()
        self._changed = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._ending = False

    def begin(self, tasks: anyio.abc.TaskGroup) -> None:
        """Start the first process in the background, and keep one spare from now on."""
        self._tasks = tasks
        tasks.start_soon(self._keep_a_spare, name="engine spare")

    def end(self) -> None:
        """Let all processes go; the task group ends when they have ended."""
        self._ending = True
        for engine in self._engines:
            engine.end()

    async def place(self, account: AccountId, put: Callable[[EngineProcess], Session]) -> Session:
        """Give the account a process with room; `put` makes its session there, without waiting.

        :raises EngineKeepsDying: if it killed too many.
        :raises EngineDied: if no process can be started.
        """
        self._quarantine.admit(account)
        while (engine := self._best(account)) is None:
            async with self._starting:
                if self._best(account) is None:
                    await self._start()
        session = put(engine)
        engine.sessions[session.number] = session
        self._room_wanted.set()
        return session

    def left(self, session: Session) -> None:
        """A session is over: its place is free."""
        for engine in self._engines:
            engine.sessions.pop(session.number, None)
        self._tell()
        self._room_wanted.set()

    # ------------------------------------------------------------------------------- placing

    def _best(self, account: AccountId) -> EngineProcess | None:
        """The fullest process that has room, so that others stay empty; a spent one if need be."""
        self._engines = [engine for engine in self._engines if not engine.ended]
        return max(
            (engine for engine in self._engines if self._takes(engine, account)),
            key=lambda each: (not each.is_spent, len(each.sessions)),
            default=None,
        )

    def _takes(self, engine: EngineProcess, account: AccountId) -> bool:
        if not engine.alive or engine.is_worn_out or engine in self._retiring:
            return False
        inside = [session.account for session in engine.sessions.values()]
        most = min(self._quarantine.company(each) for each in [account, *inside])
        suspect = self._quarantine.deaths(account) > 0
        return len(inside) < most and all(
            (self._quarantine.deaths(each) > 0) == suspect for each in inside
        )

    # ----------------------------------------------------------------------------- processes

    async def _start(self) -> EngineProcess:
        if self._tasks is None or self._ending:
            raise EngineDied("The engine host is closed.")
        engine = EngineProcess(self._settings.process, died=self._died, looked=self._look)
        self._engines.append(engine)
        self._tasks.start_soon(engine.run, name="engine")
        await engine.ready.wait()
        if not engine.alive:
            raise EngineDied("No engine process could be started.")
        return engine

    def _died(self, accounts: list[AccountId]) -> None:
        self._quarantine.note_death(accounts)
        self._room_wanted.set()

    def _look(self, engine: EngineProcess) -> None:
        """It told how it is."""
        old = engine.age_s > self._settings.least_age_s
        too_much = engine.is_worn_out or (engine.is_too_large and old)
        if too_much and engine not in self._retiring and self._tasks is not None:
            self._retiring.add(engine)
            self._tasks.start_soon(self._retire, engine, name="engine retires")
        elif engine.is_spent and not engine.sessions:
            self._room_wanted.set()

    async def _retire(self, engine: EngineProcess) -> None:
        """Move its accounts to other processes, one after the other, and end it."""
        logger.info(
            "An engine process is replaced; its accounts move",
            accounts=len(engine.sessions),
            spent=engine.spent,
            resident_mb=engine.resident_bytes >> 20,
        )
        try:
            async with self._starting:
                if not self._spares():
                    await self._start()
        except EngineDied:
            self._retiring.discard(engine)  # it is looked at again
            return
        for session in list(engine.sessions.values()):
            session.end("stopped")
            with anyio.move_on_after(LEAVE_S):
                while session.number in engine.sessions:
                    await self._changed.wait()
        if engine.sessions and not engine.ended:
            logger.warning("Accounts stay in an engine process", accounts=len(engine.sessions))
            self._retiring.discard(engine)
            return
        engine.end()
        self._retiring.discard(engine)

    def _spares(self) -> list[EngineProcess]:
        return [
            engine
            for engine in self._engines
            if engine.alive
            and not engine.sessions
            and not engine.is_spent
            and engine not in self._retiring
        ]

    async def _keep_a_spare(self) -> None:
        """Have an empty process, and let go of what is spent and empty."""
        while not self._ending:
            self._room_wanted = anyio.Event()
            try:
                async with self._starting:
                    if not self._spares():
                        await self._start()
            except EngineDied:
                if not self._ending:
                    logger.error("No engine process could be started; the next open tries again")
            self._let_go()
            await self._room_wanted.wait()
            # not while somebody waits for a QR: a start takes half a second of a processor
            with anyio.move_on_after(self._settings.spare_after_s):
                await anyio.sleep_forever()

    def _let_go(self) -> None:
        empty = [engine for engine in self._engines if engine.alive and not engine.sessions]
        fresh = [engine for engine in empty if not engine.is_spent]
        for engine in (*fresh[1:], *(engine for engine in empty if engine.is_spent)):
            if engine not in self._retiring:
                logger.info("An idle engine process is let go", spent=engine.spent)
                engine.end()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
