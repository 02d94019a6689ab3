"""One session of one account, from opening to the last saved byte.

The body follows what the engine tells about the connection; helpers run beside it: deliveries and
histories are recorded, state is saved, commands of earlier runs are settled, the phone is watched,
and the engine hears of every renewed lease. When the body is done, the session is closed first, so
that its last deliveries are still recorded and its last state is saved.
"""

from __future__ import annotations

import time

import anyio
from loguru import logger

from bridge.accounts.connection import Connection
from bridge.accounts.ending import Ended, ended_by, first_of
from bridge.accounts.face import Face
from bridge.accounts.following import Follower, read_blocklist, read_chats
from bridge.accounts.history import HistoryImport
from bridge.accounts.ledger import SendLedger
from bridge.accounts.lifecycle import Occurrence
from bridge.accounts.link import Link
from bridge.accounts.opening import Opened, Opening
from bridge.accounts.phone import PhoneWatch
from bridge.accounts.plan import Mode, Plan
from bridge.accounts.saver import Saver
from bridge.accounts.settling import Settling
from bridge.accounts.surroundings import Surroundings
from bridge.engine.session import EngineDied, Session
from bridge.errors import AccountError, BridgeError, LeaseLost
from bridge.events import TypingShown

# After the engine closed: time for the last deliveries and the last state. With Supabase away they
# stay on this disk, sealed in the spool and in the session file.
DRAIN_S = 5.0


class LiveSession:
    """Runs once.

    Attributes:
        link: what is known of it now.
        session: at the engine, once it is open.
        settled: set when nothing of an earlier run is open any more.
    """

    def __init__(
        self,
        around: Surroundings,
        plan: Plan,
        face: Face,
        ledger: SendLedger,
        *,
        lease_until: float,
    ) -> None:
        self._around = around
        self._plan = plan
        self._face = face
        self._ledger = ledger
        self._lease_until = lease_until
        self.link = Link(linked=plan.mode is Mode.RESUME)
        self.session: Session | None = None
        self._opening = Opening(around, plan, face)
        self._settling = Settling(around.rpc, ledger, plan)
        self.settled = self._settling.done
        self._phone = PhoneWatch(face, self.link)
        self._blocklist = Follower(read_blocklist, around.rpc, plan)
        self._chats = Follower(read_chats, around.rpc, plan)
        self._renewed = anyio.Event()
        self._pumped = anyio.Event()
        self._stop = anyio.CancelScope()

    @property
    def ready(self) -> bool:
        """Whether sends may be handed over."""
        return self.link.connected and self.settled.is_set() and not self.link.recovering

    def stop(self) -> None:
        """End it: recorded, saved, closed."""
        self._stop.cancel()
        self._opening.stop()

    def renewed(self, lease_until: float, phone_silent_s: float | None = None) -> None:
        """The lease holds until then (monotonic seconds); so long the phone was not seen."""
        self._lease_until = lease_until
        self._phone.tell(phone_silent_s)
        self._renewed.set()
        self._renewed = anyio.Event()

    async def run(self) -> Ended:
        """Open, follow, close.

        Raises:
            LeaseLost: the account is not ours any more; nothing was written after that was known.
        """
        around = self._around
        opened = await self._open()
        if isinstance(opened, Ended):
            return opened
        session, saver = opened.session, opened.saver
        self.session = session
        self.link.recovering = opened.is_behind
        ended: Ended | None = None
        cause: BridgeError | None = None
        try:
            async with anyio.create_task_group() as helpers:
                helpers.start_soon(self._pump, session, saver, name="record deliveries")
                helpers.start_soon(self._extend, session, name="extend the engine's lease")
                helpers.start_soon(self._settle, session, name="settle commands")
                helpers.start_soon(self._phone.run, name="watch the phone")
                helpers.start_soon(self._blocklist.run, session, name="follow the blocklist")
                helpers.start_soon(self._chats.run, session, name="follow the chats")
                if self._plan.history_days:
                    helpers.start_soon(self._record_histories, session, name="record histories")
                if self.link.linked:
                    helpers.start_soon(saver.keep, name="save the state")
                connection = Connection(
                    opened,
                    self._plan,
                    self._face,
                    self.link,
                    self._phone,
                    self._blocklist,
                    self._chats,
                    helpers=helpers,
                    ring=around.ring,
                )
                ended = await self._follow(session, connection)
                self.link.connected = False
                with anyio.move_on_after(DRAIN_S):
                    await session.disconnect()
                    await self._pumped.wait()
                helpers.cancel_scope.cancel()
        except* BridgeError as group:
            cause = first_of(group)
        finally:
            self.link.down()
            await session.aclose()  # bounded and shielded by itself
        if cause is not None and (
            isinstance(cause, LeaseLost) or not isinstance(cause, AccountError)
        ):
            raise cause
        if ended is None:
            ended = ended_by(cause) if cause else Ended(Occurrence.ENGINE_DIED)
        if not isinstance(cause, EngineDied):
            await self._put_away(session, saver, ended)
        return ended

    async def _open(self) -> Opened | Ended:
        try:
            stored = await self._opening.stored()
            if self._plan.mode is Mode.RESUME and stored.auth_state is None:
                self.link.linked = False
                return Ended(Occurrence.PAIRING_INTERRUPTED)
            return await self._opening.open(stored) or Ended(None)
        except LeaseLost:
            raise
        except AccountError as fault:
            return ended_by(fault)

    async def _follow(self, session: Session, connection: Connection) -> Ended:
        with self._stop:
            if self._plan.mode is Mode.REPLAY:
                await self.settled.wait()
                return Ended(None)
            async for signal in session.signals:
                if isinstance(signal, TypingShown):
                    self._around.typing(self._plan.account, self._plan.epoch, signal)
                    continue
                ended = await connection.take(signal)
                if ended is not None:
                    return ended
            return Ended(Occurrence.ENGINE_DIED)
        return Ended(None)

    async def _pump(self, session: Session, saver: Saver) -> None:
        async def before_sent() -> None:
            await saver.flush()

        await self._around.record(
            session, self._ledger, before_sent=before_sent, on_recorded=self._settling.recorded
        )
        self._pumped.set()

    async def _record_histories(self, session: Session) -> None:
        around = self._around
        linked = self.link.came_up if self._plan.mode is Mode.PAIR else None
        histories = HistoryImport(around.rpc, session, seal=around.seal, recorded=around.files_came)
        await histories.run(linked)

    async def _extend(self, session: Session) -> None:
        while True:
            renewed = self._renewed
            await session.extend_lease(max(0.1, self._lease_until - time.monotonic()))
            await renewed.wait()

    async def _settle(self, session: Session) -> None:
        await self._settling.run(session)
        self._around.ring()

    async def _put_away(self, session: Session, saver: Saver, ended: Ended) -> None:
        """The last state is saved, then the plain file goes; without Supabase it stays."""
        if self.link.linked and ended.occurrence is not Occurrence.LOGGED_OUT:
            with anyio.move_on_after(DRAIN_S) as saving:
                try:
                    await saver.flush()
                    await self._face.note(ended_cleanly=True)
                except LeaseLost:
                    raise
                except AccountError as fault:
                    logger.warning("The last session state was not saved", code=fault.code)
                    return
            if saving.cancelled_caught:
                return
        await session.forget()
