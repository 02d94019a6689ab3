"""How a session begins: from which state, and when it is its turn to connect.

The file on this disk is newer than the saved copy, or equal, as long as nobody else ran the account
in between. Where it cannot be used the saved copy is, which may be a little behind.
"""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import anyio.to_thread
from loguru import logger

from bridge.accounts.face import Face
from bridge.accounts.plan import Mode, Plan
from bridge.accounts.saver import PURPOSE, Saver
from bridge.accounts.surroundings import Surroundings
from bridge.engine.checkpoint import CheckpointUnusable
from bridge.engine.files import USE_LOCAL, UseLocal
from bridge.engine.replica import StateUnreadable, restore
from bridge.engine.session import Session
from bridge.supabase.answers import StoredSession
from bridge.supabase.patience import until_available
from bridge.vault import open_json

DAMAGED = (
    "The session file on the bridge's disk was damaged; the saved copy is used instead. Look at "
    "the disk."
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that runs.

    Attributes:
        is_behind: its state is a little older than what WhatsApp knows.
    """

    session: Session
    saver: Saver
    is_behind: bool


class Opening:
    """Of one session; used once."""

    def __init__(self, around: Surroundings, plan: Plan, face: Face) -> None:
        self._around = around
        self._plan = plan
        self._face = face
        self._saved: bytes | None = None
        self._is_behind = False
        self._turn = anyio.CancelScope()

    def stop(self) -> None:
        """Do not wait for a turn."""
        self._turn.cancel()

    async def stored(self) -> StoredSession:
        """What the database has of it.

        Raises:
            LeaseLost: the account is not ours any more.
        """
        plan = self._plan
        return await until_available(
            lambda: self._around.rpc.load_session(plan.account, plan.epoch), what="load session"
        )

    async def open(self, stored: StoredSession) -> Opened | None:
        """Open it when it is its turn; None if it was stopped before that.

        Raises:
            AccountError: it cannot be opened (now).
        """
        image = await self._image(stored)
        if not await self._take_turn():
            return None
        try:
            session = await self._open_with(image)
        except CheckpointUnusable:
            if image is not USE_LOCAL or self._saved is None:
                raise
            logger.warning("The checkpoint on this disk cannot be used; the saved state is")
            self._is_behind = stored.is_behind
            session = await self._open_with(self._saved)
        saver = Saver(
            self._around.rpc,
            self._around.vault,
            session.replica,
            self._plan.account,
            self._plan.epoch,
            stored.generation,
        )
        return Opened(session, saver, self._is_behind)

    async def _open_with(self, image: bytes | UseLocal | None) -> Session:
        plan = self._plan
        return await self._around.host.open(
            plan.account,
            plan.epoch,
            vault=self._around.vault,
            image=image,
            pairing=plan.pairing,
            history_days=plan.history_days,
            strict=plan.strict,
        )

    async def _image(self, stored: StoredSession) -> bytes | UseLocal | None:
        if self._plan.mode is not Mode.RESUME:
            return None
        # Opened in any case: a file on this disk is no reason to go on with the wrong key.
        image = self._saved = await anyio.to_thread.run_sync(self._restored, stored)
        local = self._around.files.local_state(self._plan.account)
        if local is not None and local.epoch in (self._plan.epoch - 1, self._plan.epoch):
            # nobody ran it in between; the file is newer than the copy, or equal
            if await self._around.files.local_is_intact(self._plan.account):
                return USE_LOCAL
            # the saved copy is at most a second older, and whole
            await self._face.report("error", "session_file_damaged", DAMAGED)
        self._is_behind = stored.is_behind
        return image

    async def _take_turn(self) -> bool:
        """Connections of a host begin one after the other; False if it was stopped meanwhile."""
        if self._plan.mode is Mode.REPLAY:
            return True
        with self._turn:
            await self._around.connect_rate.turn(urgent=self._plan.mode is Mode.PAIR)
        return not self._turn.cancelled_caught

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
                account=self._plan.account,
                generation=generation,
            )
            for generation, sealed in [
                (base_generation, stored.auth_state),
                *((delta.generation, delta.delta) for delta in stored.deltas),
            ]
        ]
        return restore(parts[0], parts[1:])
