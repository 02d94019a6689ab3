"""The connection of a session, as the engine tells of it: shown in the row, and decided upon."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from bridge.accounts.ending import Ended, ended_with
from bridge.accounts.face import Face, later
from bridge.accounts.following import Follower
from bridge.accounts.lifecycle import Occurrence, occurrence_of
from bridge.accounts.link import Link
from bridge.accounts.opening import Opened
from bridge.accounts.phone import PhoneWatch
from bridge.accounts.plan import Mode, Plan
from bridge.accounts.qr import png_data_url
from bridge.engine.session import EngineDied
from bridge.errors import CommandError
from bridge.events import (
    BlocklistChanged,
    ChatsChanged,
    Connected,
    Disconnected,
    PairingCodeShown,
    PairingFailed,
    PhoneSeen,
    QrShown,
    SessionEnded,
    Signal,
)
from bridge.orders import ShowOnline

RECOVERING = (
    "Connected from a saved state that misses the last moment before a crash: some messages may "
    "come late, or be asked for again."
)
# Sends wait so long then.
RECOVERY_S = 3.0
# A connection that is back within this time was never gone for those who look at the row.
BLIP_S = 5.0
# So long whatsmeow may dial by itself after that; drawn, or all accounts would begin anew together.
REDIALS_S = (20.0, 40.0)
ONLINE_PAUSES_S = (0.0, 1.0, 2.0, 5.0, 15.0, 60.0)


class Connection:
    """Takes the signals of one session, in order; what takes longer goes on among `helpers`."""

    def __init__(
        self,
        opened: Opened,
        plan: Plan,
        face: Face,
        link: Link,
        phone: PhoneWatch,
        blocklist: Follower,
        chats: Follower,
        *,
        helpers: TaskGroup,
        ring: Callable[[], None],
    ) -> None:
        self._session = opened.session
        self._saver = opened.saver
        self._plan = plan
        self._face = face
        self._link = link
        self._phone = phone
        self._blocklist = blocklist
        self._chats = chats
        self._helpers = helpers
        self._ring = ring
        self._blip: anyio.CancelScope | None = None

    async def take(self, signal: Signal) -> Ended | None:
        """Show what it says; why the session is over, if it is.

        Raises:
            LeaseLost: the account is not ours any more.
        """
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
                await self._take_connected(signal)
            case BlocklistChanged():
                self._blocklist.may_have_changed()
            case ChatsChanged():
                self._chats.may_have_changed()
            case PhoneSeen():
                await self._phone.seen()
            case Disconnected():
                self._link.down()
                self._calm()
                # here, not in the task: it may be over before that begins
                self._blip = anyio.CancelScope()
                self._helpers.start_soon(
                    self._wait_for_it, self._blip, name="tell that the connection is lost"
                )
            case PairingFailed():
                return Ended(occurrence_of(signal.code))
            case SessionEnded():
                return ended_with(signal)
        return None

    async def _take_connected(self, signal: Connected) -> None:
        self._calm()
        self._link.phone_jid = signal.phone_jid
        if not self._link.linked:
            # `connected` promises that a restart asks for no QR: the state is safe before it.
            await self._saver.flush()
            self._link.linked = True
            self._helpers.start_soon(self._saver.keep, name="save the state")
        details: dict[str, Any] = {
            "numero": "+" + signal.phone_jid.partition("@")[0],
            "instance_id": signal.phone_jid,
            "lid": signal.lid,
            "last_connected_at": "now",
            "last_seen_at": "now",
        }
        if self._plan.mode is Mode.PAIR:
            details["phone_last_seen_at"] = "now"  # it was there to scan
        sentence = RECOVERING if self._link.recovering else None
        await self._face.show(Occurrence.CONNECTED, sentence=sentence, **details)
        if self._link.recovering:
            self._helpers.start_soon(self._recover, name="recover")
        if not self._link.came_up.is_set():
            self._chats.may_have_changed()  # an earlier run may have died before it was recorded
        self._link.up()
        self._blocklist.may_have_changed()
        self._ring()
        if self._plan.receive_typing:
            self._helpers.start_soon(self._show_online, name="look online")

    async def _show_online(self) -> None:
        """Or not: then nobody is told to type, until the next connection."""
        for pause_s in ONLINE_PAUSES_S:
            await anyio.sleep(pause_s)
            # whatsmeow presence.go: not before the phone has told the account's own name
            with suppress(CommandError, EngineDied):
                await self._session.ask(ShowOnline())
                return

    async def _recover(self) -> None:
        """The state is a little older than what WhatsApp knows: hear first, send afterwards.

        A send would use keys a second time that the lost state had used already; what the others
        send now brings the ratchets on, or is asked for again.
        """
        await self._face.report("warning", "recovering", RECOVERING)
        await anyio.sleep(RECOVERY_S)
        self._link.recovering = False
        self._ring()

    async def _wait_for_it(self, blip: anyio.CancelScope) -> None:
        """Tell that the connection is lost, and end the session if it does not come back.

        whatsmeow dials again by itself, after pauses that grow without a bound and are the same for
        every account: after a while the backoff of the account takes its place.
        """
        with blip:
            await anyio.sleep(BLIP_S)
            await self._face.show(Occurrence.CONNECTION_LOST)
            await anyio.sleep(random.uniform(*REDIALS_S))  # noqa: S311 - no secret
            self._session.end("unreachable")

    def _calm(self) -> None:
        if self._blip is not None:
            self._blip.cancel()
            self._blip = None
