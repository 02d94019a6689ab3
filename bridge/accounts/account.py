"""One account on this host: what it is to do now, and what commands ask of it.

The loop in `run` is the only one that opens sessions. Requests (`connect`, `disconnect`, `logout`)
change the goal, wake the loop, and wait for what the row shows then.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Any

import anyio
from loguru import logger

from bridge.accounts.ending import Ended
from bridge.accounts.face import Face
from bridge.accounts.ledger import SendLedger
from bridge.accounts.lifecycle import TRANSITIONS, Next, Occurrence
from bridge.accounts.plan import Mode, Plan
from bridge.accounts.session import LiveSession
from bridge.accounts.settling import finish_send, settle_commands
from bridge.accounts.surroundings import Surroundings
from bridge.engine.host import PairByCode, PairByQr
from bridge.engine.session import EngineDied, Session
from bridge.errors import CommandError
from bridge.ids import AccountId, CommandId, Jid
from bridge.orders import Logout, Outgoing, Request
from bridge.states import AccountStatus, Desired
from bridge.supabase.answers import Attempt, Lease
from bridge.supabase.patience import Backoff

CONNECT_WAIT_S = 45.0
STOP_WAIT_S = 15.0
LOGOUT_CONNECT_S = 20.0
LOGOUT_ANSWER_S = 10.0
LOGOUT_RETRY_S = 0.5
FIRST_RETRY_S = 2.0
MOST_RETRY_S = 300.0
# A connection that held so long ends a row of failures.
STEADY_S = 60.0
# The host that had the account before may still wake up, and connect before it knows of its loss.
TAKE_OVER_S = 120.0


class Goal(StrEnum):
    """What the loop does next."""

    REST = "rest"
    REPLAY = "replay"
    RESUME = "resume"
    PAIR = "pair"


class NotConnected(CommandError):
    """The account cannot send now."""

    code = "not_connected"


class Account:
    """Runs under one lease, from when it was taken until it is lost or given back.

    Attributes:
        settings: as its row said at the last renewal.
    """

    def __init__(
        self, around: Surroundings, lease: Lease, lease_until: float, ledger: SendLedger
    ) -> None:
        self.id: AccountId = lease.account_id
        self.epoch = lease.lease_epoch
        self.settings = lease.settings
        self._around = around
        self._lease = lease
        self._lease_until = lease_until
        self._face = Face(around.rpc, self.id, self.epoch, lease.status)
        self._ledger = ledger
        self._had_auth = lease.has_auth_state
        self._goal = Goal.REST
        self._pairing: PairByQr | PairByCode | None = None
        self._live: LiveSession | None = None
        self._settled = False
        self._stopping = False
        self._moves = False
        self._logging_out = False
        self._woken = anyio.Event()
        self._rested = anyio.Event()
        self._deciding = anyio.Lock()
        strange = lease.previous_owner not in (None, around.rpc.worker)
        self._taken_over_at = time.monotonic() if strange else None
        self._backoff = Backoff(FIRST_RETRY_S, MOST_RETRY_S, least_s=0.5)
        local = around.files.local_state(self.id)
        self._known_epoch = local.epoch if local is not None else None

    @property
    def status(self) -> AccountStatus:
        """As its row says."""
        return self._face.status

    async def run(self) -> None:
        """Live until `stop`, or until cancelled because the lease is lost.

        Raises:
            LeaseLost: the database says so.
        """
        await self._begin()
        while not self._stopping:
            if self._goal is Goal.REST:
                await self._rest()
            else:
                await self._session()
        await self._say_stopped()

    def stop(self, *, moves: bool = False) -> None:
        """End gracefully: `run` returns when everything is recorded, saved and told.

        Args:
            moves: another host goes on with it.
        """
        self._stopping = True
        self._moves = moves
        if self._live is not None:
            self._live.stop()
        self._wake()

    def renewed(self, lease: Lease, lease_until: float) -> None:
        """The lease holds until then (monotonic seconds), and the settings may have changed."""
        self.settings = lease.settings
        self._lease_until = lease_until
        if self._live is not None:
            self._live.renewed(lease_until, lease.phone_silent_s)

    # ------------------------------------------------------------------ requests of commands

    async def connect(self, pairing: PairByQr | PairByCode) -> AccountStatus:
        """Be connected, or show something to link a phone with; returns the status then.

        Raises:
            CommandError: with the reason, if the account comes to rest instead.
        """
        async with self._deciding:
            if self._live is not None and self._live.link.connected:
                return AccountStatus.CONNECTED
            shown = self._face.status is AccountStatus.QR_REQUIRED and self._goal is Goal.PAIR
            if shown and self._pairing == pairing and pairing == PairByQr():
                return self._face.status
            turn = self._face.turn
            await self._face.want(Desired.RUNNING)
            self._backoff.reset()
            self._pairing = pairing
            goal = Goal.RESUME if self._has_auth else Goal.PAIR
            if self._live is not None and (goal is Goal.PAIR or self._goal is not goal):
                self._live.stop()
            self._goal = goal
            self._wake()
        with anyio.move_on_after(CONNECT_WAIT_S):
            came = await self._face.until_shown(_decides, after=turn)
            if TRANSITIONS[came].then is not Next.STAY:
                raise CommandError(self._face.sentence, code=came.value)
        return self._face.status

    async def disconnect(self) -> None:
        """Close the session and keep the credentials."""
        await self._come_to_rest()
        async with self._deciding:
            if self._face.status is not AccountStatus.LOGGED_OUT:
                await self._face.show(Occurrence.DISCONNECTED_BY_USER)

    async def logout(self) -> bool:
        """Unlink the device and destroy the credentials; whether WhatsApp was told.

        An account that cannot be connected in time is forgotten here all the same.
        """
        self._logging_out = True
        try:
            if self._has_auth and await self._unlinked_at_whatsapp():
                return True
            await self._come_to_rest()
            async with self._deciding:
                had_auth = self._has_auth
                await self._forget(
                    Occurrence.LOGGED_OUT_BY_USER,
                    sentence=(
                        "Logged out here, but WhatsApp could not be told: remove the device on "
                        "the phone, under Linked devices."
                        if had_auth
                        else None
                    ),
                )
            return not had_auth
        finally:
            self._logging_out = False

    async def send(self, command: CommandId, to: Jid, order: Outgoing, attempt: Attempt) -> None:
        """Hand a message to WhatsApp; returns when its outcome is recorded (or will never come).

        Raises:
            NotConnected: nothing was sent.
            CommandError: the engine did not take it.
        """
        session = self._ready_session()
        entry = self._ledger.hand_over(command, attempt)
        try:
            await session.send(command, to, order)
        except CommandError:
            self._ledger.take_back(command)
            raise
        except EngineDied:
            logger.info("The engine died during a send; its journal will tell the outcome")
        await entry.settled.wait()

    async def ask(self, order: Request) -> Any:
        """Have something done at WhatsApp; returns what the order says it answers.

        Raises:
            NotConnected: it was not asked.
            CommandError: WhatsApp refused, or cannot be asked now.
        """
        session = self._ready_session()
        try:
            return await session.ask(order)
        except EngineDied as fault:
            raise CommandError(fault.sentence, code=fault.code, retryable=True) from None

    @property
    def workspace_id(self) -> str:
        """Whose it is."""
        return self._lease.workspace_id

    @property
    def own_jid(self) -> Jid | None:
        """Own phone address, while connected."""
        live = self._live
        return Jid(live.link.phone_jid) if live is not None and live.link.phone_jid else None

    @property
    def _has_auth(self) -> bool:
        """Whether there are credentials; a session that is still running may have made them."""
        return self._had_auth or (self._live is not None and self._live.link.linked)

    def _ready_session(self) -> Session:
        live = self._live
        if live is not None and live.session is not None and live.ready:
            return live.session
        if self._goal is Goal.REST:
            raise NotConnected(
                "The account is not connected: insert a `connect` command first.", retryable=False
            )
        raise NotConnected("The account is connecting.", retryable=True)

    # ------------------------------------------------------------------ the loop

    async def _begin(self) -> None:
        wanted = self._lease.desired is Desired.RUNNING
        if wanted and self._has_auth:
            self._goal = Goal.RESUME
            return
        if await self._around.files.has_unrecorded_events(self.id):
            self._goal = Goal.REPLAY
        else:
            await self._settle_at_rest()
        if wanted:
            await self._face.show(Occurrence.PAIRING_INTERRUPTED)

    async def _rest(self) -> None:
        woken = self._woken
        await self._give_up_sends()
        self._rested.set()
        await woken.wait()
        self._rested = anyio.Event()

    async def _session(self) -> None:
        goal = self._goal
        pairing = self._pairing if goal is Goal.PAIR else None
        if goal is not Goal.REPLAY:
            await self._face.show(Occurrence.STARTING)
        if goal is not self._goal or self._stopping:
            return
        plan = Plan(
            account=self.id,
            epoch=self.epoch,
            mode=Mode(goal.value),
            pairing=pairing,
            known_epoch=self._known_epoch,
            settles=not self._settled,
            history_days=int(self.settings.get("history_days", 14)),
            strict=self.settings.get("durability") == "strict",
            receive_typing=self.settings.get("receive_typing") is True,
        )
        live = LiveSession(
            self._around, plan, self._face, self._ledger, lease_until=self._lease_until
        )
        self._live = live
        try:
            ended = await live.run()
        finally:
            self._had_auth = self._has_auth
            self._live = None
        self._settled = self._settled or live.settled.is_set()
        if goal is Goal.PAIR and self._goal is Goal.PAIR and self._has_auth:
            self._goal = Goal.RESUME  # it was linked: whatever ended it, no new QR
        if live.link.connected_for_s > STEADY_S:
            self._backoff.reset()
        if goal is Goal.REPLAY and self._goal is Goal.REPLAY:
            self._goal = Goal.REST
            if not self._settled:
                await self._settle_at_rest()
        elif ended.occurrence is not None:
            await self._after(goal, ended)

    async def _after(self, goal: Goal, ended: Ended) -> None:
        occurrence = ended.occurrence
        assert occurrence is not None
        pause_s: float | None = None
        if occurrence is Occurrence.REPLACED and self._may_be_the_last_host():
            occurrence = Occurrence.CONNECT_FAILURE
        async with self._deciding:
            retries = TRANSITIONS[occurrence].then is Next.RETRY
            if retries and goal is Goal.PAIR and not self._has_auth:
                occurrence = Occurrence.PAIRING_FAILED
            match TRANSITIONS[occurrence].then:
                case Next.RETRY if self._goal is Goal.REST:
                    return  # somebody asked for that while it was closing, and tells it
                case Next.RETRY:
                    pause_s = self._pause_s(occurrence)
                    await self._face.show(occurrence, sentence=ended.sentence, retry_in_s=pause_s)
                case Next.FORGET:
                    if self._logging_out:
                        occurrence = Occurrence.LOGGED_OUT_BY_USER
                    self._goal = Goal.REST
                    await self._forget(occurrence)
                case then:
                    self._goal = Goal.REST
                    await self._face.show(
                        occurrence, sentence=ended.sentence, retry_in_s=ended.retry_after_s
                    )
                    if then is Next.HOLD:
                        await self._face.report("error", occurrence.value, self._face.sentence)
        if pause_s is not None and not self._stopping:
            with anyio.move_on_after(pause_s):
                await self._woken.wait()

    def _pause_s(self, occurrence: Occurrence) -> float:
        first = self._backoff.attempts == 0
        pause_s = self._backoff.next_delay_s()
        # mostly it was another account's fault, or nobody's, and a spare engine is there
        return 0.0 if first and occurrence is Occurrence.ENGINE_DIED else pause_s

    def _may_be_the_last_host(self) -> bool:
        """Whether it was the host before us that took the session; asked once a lease."""
        taken_over_at, self._taken_over_at = self._taken_over_at, None
        return taken_over_at is not None and time.monotonic() - taken_over_at < TAKE_OVER_S

    async def _say_stopped(self) -> None:
        if self._goal is Goal.PAIR and not self._has_auth:
            await self._face.show(Occurrence.PAIRING_INTERRUPTED)
        elif self._goal in (Goal.RESUME, Goal.PAIR):
            moves = self._moves
            await self._face.show(Occurrence.MOVING if moves else Occurrence.BRIDGE_STOPPED)

    # ------------------------------------------------------------------ steps

    def _wake(self) -> None:
        self._woken.set()
        self._woken = anyio.Event()

    async def _come_to_rest(self) -> None:
        async with self._deciding:
            self._goal = Goal.REST
            if self._live is not None:
                self._live.stop()
            self._wake()
        with anyio.move_on_after(STOP_WAIT_S):
            await self._rested.wait()

    async def _unlinked_at_whatsapp(self) -> bool:
        turn = self._face.turn
        if self._live is None or not self._live.link.connected:
            async with self._deciding:
                self._goal = Goal.RESUME
                self._backoff.reset()
                self._wake()
            with anyio.move_on_after(LOGOUT_CONNECT_S):
                await self._face.until_shown(_decides, after=turn)
        with anyio.move_on_after(LOGOUT_ANSWER_S):
            while self._face.reason is not Occurrence.LOGGED_OUT_BY_USER:
                live = self._live
                if live is None or live.session is None:
                    return False
                try:
                    await live.session.ask(Logout())
                    await self._face.until_shown(_is_logged_out, after=turn)
                except EngineDied:
                    return False
                except CommandError as fault:
                    logger.info("WhatsApp did not take the logout", code=fault.code)
                    if not fault.retryable:
                        return False
                    await anyio.sleep(LOGOUT_RETRY_S)
            return True
        return False

    async def _forget(self, occurrence: Occurrence, sentence: str | None = None) -> None:
        # the file first: once the row says it, this host may lose the account at any moment
        await self._around.host.forget(self.id)
        await self._face.show(occurrence, sentence=sentence)
        self._had_auth = False

    async def _settle_at_rest(self) -> None:
        await settle_commands(self._around.rpc, self.id, self.epoch, None)
        self._settled = True

    async def _give_up_sends(self) -> None:
        """Without a session nobody will hear of these: they may have left."""
        for command in {*self._ledger.started(), *self._ledger.unstarted()}:
            name = self._ledger.name_of(command)
            await finish_send(self._around.rpc, self.id, self.epoch, command, "unknown", name)
            self._ledger.take_back(command)


def _is_logged_out(occurrence: Occurrence) -> bool:
    return occurrence is Occurrence.LOGGED_OUT_BY_USER


def _decides(occurrence: Occurrence) -> bool:
    """Whether a request to connect has its answer."""
    transition = TRANSITIONS[occurrence]
    return transition.status in (
        AccountStatus.QR_REQUIRED,
        AccountStatus.CONNECTED,
    ) or transition.then in (Next.REST, Next.FORGET, Next.HOLD)
