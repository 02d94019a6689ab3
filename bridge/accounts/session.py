"""One session of one account, from opening to the last saved byte.

The body follows what the engine tells about the connection; four helpers run beside it: deliveries
are recorded, state is saved, commands of earlier runs are settled, and the engine hears of every
renewed lease. When the body is done, the session is closed first, so that its last deliveries are
still recorded and its last state is saved.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from loguru import logger

from bridge.accounts.face import Face, later
from bridge.accounts.ledger import SendLedger
from bridge.accounts.lifecycle import Occurrence, occurrence_of
from bridge.accounts.qr import png_data_url
from bridge.accounts.saver import PURPOSE, Saver
from bridge.accounts.settling import finish_send, settle_commands
from bridge.engine.host import (
    USE_LOCAL,
    EngineDied,
    LocalState,
    PairByCode,
    PairByQr,
    Session,
    UseLocal,
)
from bridge.engine.replica import StateUnreadable, restore
from bridge.errors import AccountError, BridgeError, CommandError, LeaseLost
from bridge.events import (
    Connected,
    Disconnected,
    PairingCodeShown,
    PairingFailed,
    QrShown,
    SessionEnded,
    Signal,
    TypingShown,
)
from bridge.ids import AccountId, CommandId, LeaseEpoch, SpoolPosition
from bridge.orders import ShowOnline
from bridge.supabase.patience import until_available
from bridge.supabase.rpc import BridgeRpc, StoredSession
from bridge.vault import Vault, open_json

# A connection that is back within this time was never gone for those who look at the row.
BLIP_S = 5.0
ONLINE_PAUSES_S = (0.0, 1.0, 2.0, 5.0, 15.0, 60.0)
# After the engine closed: time for the last deliveries and the last state. With Supabase away they
# stay on this disk, sealed in the spool and in the session file.
DRAIN_S = 5.0
CLOSE_S = 6.0


class Hosts(Protocol):
    """What is needed of the engine host."""

    async def open(
        self,
        account: AccountId,
        epoch: LeaseEpoch,
        *,
        vault: Vault,
        image: bytes | UseLocal | None,
        pairing: PairByQr | PairByCode | None = None,
        history_days: int = 14,
    ) -> Session:
        """Start a session."""

    def local_state(self, account: AccountId) -> LocalState | None:
        """What an earlier run left on this disk."""

    def accounts_with_unrecorded_events(self) -> list[AccountId]:
        """Whose spools are not empty."""

    async def forget(self, account: AccountId) -> None:
        """Delete a session file."""


class Recorder(Protocol):
    """Records what a session delivers, until it ends."""

    async def __call__(
        self,
        session: Session,
        ledger: SendLedger,
        *,
        before_sent: Callable[[], Awaitable[None]],
        on_recorded: Callable[[SpoolPosition], None],
    ) -> None:
        """Return when the session delivers no more."""


class HistoryRecorder(Protocol):
    """Records the histories of a session, until it ends."""

    async def __call__(self, session: Session, linked: anyio.Event | None) -> None:
        """Return when there are no more; `linked` is set when a phone is linked anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all accounts share.

    Attributes:
        ring: something may be claimable now.
        record_history: None = histories stay where they are.
        typing: somebody types; must not wait.
    """

    rpc: BridgeRpc
    host: Hosts
    vault: Vault
    record: Recorder
    ring: Callable[[], None]
    record_history: HistoryRecorder | None = None
    typing: Callable[[AccountId, LeaseEpoch, TypingShown], None] = lambda *_: None


class Mode(StrEnum):
    """What a session is for."""

    RESUME = "resume"
    PAIR = "pair"
    REPLAY = "replay"
    """Only record what the spool holds; no connection."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a session ended.

    Attributes:
        occurrence: None if we asked for it.
        sentence: instead of the table's, where more is known.
        retry_after_s: how long WhatsApp blocks the number.
    """

    occurrence: Occurrence | None
    sentence: str | None = None
    retry_after_s: float | None = None


class LiveSession:
    """Runs once.

    Attributes:
        connected: logged in at WhatsApp, as far as is known now.
        linked: the credentials in the database are worth something.
        phone_jid: own address, when connected.
    """

    def __init__(
        self,
        around: Surroundings,
        account: AccountId,
        epoch: LeaseEpoch,
        face: Face,
        ledger: SendLedger,
        *,
        mode: Mode,
        pairing: PairByQr | PairByCode | None,
        lease_until: float,
        known_epoch: LeaseEpoch | None,
        settle: bool,
        history_days: int = 14,
        receive_typing: bool = False,
    ) -> None:
        self._around = around
        self._account = account
        self._epoch = epoch
        self._face = face
        self._ledger = ledger
        self._mode = mode
        self._pairing = pairing
        self._lease_until = lease_until
        self._known_epoch = known_epoch
        self._settle_rows = settle
        self._history_days = history_days
        self._receive_typing = receive_typing
        self._linked_anew = anyio.Event()
        self.connected = False
        self.linked = mode is Mode.RESUME
        self.settled = anyio.Event()
        self.phone_jid: str | None = None
        self.connected_for_s = 0.0
        self._connected_at: float | None = None
        self._renewed = anyio.Event()
        self._recorded = SpoolPosition(0)
        self._recorded_more = anyio.Event()
        self._pumped = anyio.Event()
        self._stop = anyio.CancelScope()
        self._blip: anyio.CancelScope | None = None
        self.session: Session | None = None
        self._saver: Saver | None = None

    @property
    def ready(self) -> bool:
        """Whether sends may be handed over."""
        return self.connected and self.settled.is_set()

    def stop(self) -> None:
        """End it: recorded, saved, closed."""
        self._stop.cancel()

    def renewed(self, lease_until: float) -> None:
        """The lease holds until then (monotonic seconds)."""
        self._lease_until = lease_until
        self._renewed.set()
        self._renewed = anyio.Event()

    async def run(self) -> Ended:
        """Open, follow, close.

        Raises:
            LeaseLost: the account is not ours any more; nothing was written after that was known.
        """
        around = self._around
        try:
            stored = await until_available(
                lambda: around.rpc.load_session(self._account, self._epoch), what="load session"
            )
            if self._mode is Mode.RESUME and stored.auth_state is None:
                self.linked = False
                return Ended(Occurrence.PAIRING_INTERRUPTED)
            image = await self._image(stored)
            session = await around.host.open(
                self._account,
                self._epoch,
                vault=around.vault,
                image=image,
                pairing=self._pairing,
                history_days=self._history_days,
            )
        except LeaseLost:
            raise
        except AccountError as fault:
            return _ended_by(fault)
        self.session = session
        self._saver = Saver(
            around.rpc,
            around.vault,
            session.replica,
            self._account,
            self._epoch,
            stored.generation,
        )
        ended: Ended | None = None
        cause: BridgeError | None = None
        try:
            async with anyio.create_task_group() as helpers:
                helpers.start_soon(self._pump, session, self._saver, name="record deliveries")
                helpers.start_soon(self._extend, session, name="extend the engine's lease")
                helpers.start_soon(self._settle, session, name="settle commands")
                if around.record_history is not None and self._history_days:
                    linked = self._linked_anew if self._mode is Mode.PAIR else None
                    helpers.start_soon(
                        around.record_history, session, linked, name="record histories"
                    )
                if self.linked:
                    helpers.start_soon(self._saver.keep, name="save the state")
                ended = await self._follow(session, helpers)
                self.connected = False
                with anyio.move_on_after(DRAIN_S):
                    await session.disconnect()
                    await self._pumped.wait()
                helpers.cancel_scope.cancel()
        except* BridgeError as group:
            cause = _first(group)
        finally:
            self._note_disconnected()
            with anyio.move_on_after(CLOSE_S, shield=True):
                await session.aclose()
        if cause is not None and (
            isinstance(cause, LeaseLost) or not isinstance(cause, AccountError)
        ):
            raise cause
        if ended is None:
            ended = _ended_by(cause) if cause else Ended(Occurrence.ENGINE_DIED)
        if not isinstance(cause, EngineDied):
            await self._put_away(session, ended)
        return ended

    async def _image(self, stored: StoredSession) -> bytes | UseLocal | None:
        if self._mode is not Mode.RESUME:
            return None
        # Opened in any case: a file on this disk is no reason to go on with the wrong key.
        image = await anyio.to_thread.run_sync(self._restored, stored)
        local = self._around.host.local_state(self._account)
        if local is not None and local.epoch in (self._epoch - 1, self._epoch):
            return USE_LOCAL  # nobody ran it in between; the file is newer than the copy, or equal
        return image

    def _restored(self, stored: StoredSession) -> bytes:
        generations = [delta.generation for delta in stored.deltas]
        base_generation = (generations[0] if generations else stored.generation + 1) - 1
        if generations != list(range(base_generation + 1, stored.generation + 1)):
            raise StateUnreadable("A part of the saved state is missing.")
        parts = [
            open_json(
                self._around.vault,
                sealed,
                purpose=PURPOSE,
                account=self._account,
                generation=generation,
            )
            for generation, sealed in [
                (base_generation, stored.auth_state),
                *((delta.generation, delta.delta) for delta in stored.deltas),
            ]
        ]
        return restore(parts[0], parts[1:])

    async def _follow(self, session: Session, helpers: TaskGroup) -> Ended:
        with self._stop:
            if self._mode is Mode.REPLAY:
                await self.settled.wait()
                return Ended(None)
            async for signal in session.signals:
                if isinstance(signal, TypingShown):
                    self._around.typing(self._account, self._epoch, signal)
                    continue
                ended = await self._take(signal, helpers)
                if ended is not None:
                    return ended
            return Ended(Occurrence.ENGINE_DIED)
        return Ended(None)

    async def _take(self, signal: Signal, helpers: TaskGroup) -> Ended | None:
        face = self._face
        match signal:
            case QrShown():
                qr = await anyio.to_thread.run_sync(png_data_url, signal.text)
                expires = later(signal.valid_s)
                await face.show(Occurrence.QR_SHOWN, last_qr=qr, qr_expires_at=expires)
            case PairingCodeShown():
                await face.show(
                    Occurrence.CODE_SHOWN,
                    pairing_code=signal.code,
                    qr_expires_at=later(signal.valid_s),
                )
            case Connected():
                await self._take_connected(signal, helpers)
            case Disconnected():
                self._note_disconnected()
                self._calm()
                # here, not in the task: it may be over before that begins
                self._blip = anyio.CancelScope()
                helpers.start_soon(
                    self._tell_lost, self._blip, name="tell that the connection is lost"
                )
            case PairingFailed():
                return Ended(occurrence_of(signal.code))
            case SessionEnded(code="lease_expired"):
                raise LeaseLost("The lease was not renewed in time.")
            case SessionEnded(code="stopped"):
                return Ended(None)
            case SessionEnded():
                if signal.detail:
                    logger.info(
                        "WhatsApp ended the session", code=signal.code, detail=signal.detail
                    )
                return Ended(occurrence_of(signal.code), retry_after_s=signal.retry_after_s)
        return None

    async def _take_connected(self, signal: Connected, helpers: TaskGroup) -> None:
        self._calm()
        self.phone_jid = signal.phone_jid
        if not self.linked and self._saver is not None:
            # `connected` promises that a restart asks for no QR: the state is safe before it.
            await self._saver.flush()
            self.linked = True
            helpers.start_soon(self._saver.keep, name="save the state")
        details: dict[str, Any] = {
            "numero": "+" + signal.phone_jid.partition("@")[0],
            "instance_id": signal.phone_jid,
            "lid": signal.lid,
            "last_connected_at": "now",
            "last_seen_at": "now",
        }
        await self._face.show(Occurrence.CONNECTED, **details)
        self.connected = True
        self._connected_at = time.monotonic()
        self._linked_anew.set()
        self._around.ring()
        if self._receive_typing:
            helpers.start_soon(self._show_online, name="look online")

    async def _show_online(self) -> None:
        """Or not: then nobody is told to type, until the next connection."""
        assert self.session is not None
        for pause_s in ONLINE_PAUSES_S:
            await anyio.sleep(pause_s)
            # whatsmeow presence.go: not before the phone has told the account's own name
            with suppress(CommandError, EngineDied):
                await self.session.ask(ShowOnline())
                return

    async def _tell_lost(self, blip: anyio.CancelScope) -> None:
        with blip:
            await anyio.sleep(BLIP_S)
            await self._face.show(Occurrence.CONNECTION_LOST)

    def _calm(self) -> None:
        if self._blip is not None:
            self._blip.cancel()
            self._blip = None

    def _note_disconnected(self) -> None:
        self.connected = False
        if self._connected_at is not None:
            self.connected_for_s = time.monotonic() - self._connected_at
            self._connected_at = None

    async def _pump(self, session: Session, saver: Saver) -> None:
        async def before_sent() -> None:
            await saver.flush()

        await self._around.record(
            session, self._ledger, before_sent=before_sent, on_recorded=self._note_recorded
        )
        self._pumped.set()

    def _note_recorded(self, position: SpoolPosition) -> None:
        self._recorded = position
        self._recorded_more.set()
        self._recorded_more = anyio.Event()

    async def _extend(self, session: Session) -> None:
        while True:
            renewed = self._renewed
            await session.extend_lease(max(0.1, self._lease_until - time.monotonic()))
            await renewed.wait()

    async def _settle(self, session: Session) -> None:
        """What an earlier run left open is decided when its spool has been read to the end."""
        replayed = await session.replayed()
        while self._recorded < replayed:
            await self._recorded_more.wait()
        for command in self._ledger.started():
            await self._finish(command, "unknown")
        for command in self._ledger.unstarted():
            await self._finish(command, "pending")
        if replayed:
            await session.confirm(self._recorded)
        if self._settle_rows:
            await settle_commands(self._around.rpc, self._account, self._epoch, self._known_epoch)
        self.settled.set()
        self._around.ring()

    async def _finish(self, command: CommandId, status: Literal["unknown", "pending"]) -> None:
        await finish_send(self._around.rpc, self._account, self._epoch, command, status)
        self._ledger.take_back(command)

    async def _put_away(self, session: Session, ended: Ended) -> None:
        """The last state is saved, then the plain file goes; without Supabase it stays."""
        if self.linked and ended.occurrence is not Occurrence.LOGGED_OUT and self._saver:
            with anyio.move_on_after(DRAIN_S) as saving:
                try:
                    await self._saver.flush()
                except LeaseLost:
                    raise
                except AccountError as fault:
                    logger.warning("The last session state was not saved", code=fault.code)
                    return
            if saving.cancelled_caught:
                return
        await session.forget()


def _ended_by(fault: AccountError) -> Ended:
    occurrence = occurrence_of(fault.code)
    tells_more = occurrence is Occurrence.KEY_UNKNOWN
    return Ended(occurrence, fault.sentence if tells_more else None)


def _first(group: BaseExceptionGroup[BridgeError]) -> BridgeError:
    """The fault that counts: a lost lease before all others."""
    faults = [
        _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
        for inner in group.exceptions
    ]
    return next((fault for fault in faults if isinstance(fault, LeaseLost)), faults[0])
