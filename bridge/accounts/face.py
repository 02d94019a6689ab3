"""An account's row in `integration_accounts`: the only thing of it that frontends see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import anyio
from loguru import logger

from bridge.accounts.lifecycle import TRANSITIONS, Next, Occurrence
from bridge.errors import SupabaseUnavailable
from bridge.ids import AccountId, LeaseEpoch
from bridge.states import AccountStatus, Desired
from bridge.supabase.patience import until_available

_NOTHING_TO_SCAN = {"last_qr": None, "qr_expires_at": None, "pairing_code": None}
_DETAIL_MAX_CHARS = 500
_ATTEMPT_S = 4.0


class WritesAccounts(Protocol):
    """What is needed of the database."""

    async def update_account(
        self, account: AccountId, epoch: LeaseEpoch, changes: dict[str, Any]
    ) -> None:
        """Write the given columns."""

    async def destroy_session(
        self, account: AccountId, epoch: LeaseEpoch, changes: dict[str, Any]
    ) -> None:
        """Forget the credentials for good and write the given columns."""

    async def report(self, account: AccountId | None, level: str, code: str, message: str) -> None:
        """Leave a line for the operator."""


class Face:
    """Writes the row, and remembers what it says."""

    def __init__(
        self, rpc: WritesAccounts, account: AccountId, epoch: LeaseEpoch, status: AccountStatus
    ) -> None:
        self._rpc = rpc
        self._account = account
        self._epoch = epoch
        self.status = status
        self.reason: Occurrence | None = None
        self.sentence = ""
        self._turn = 0
        self._shown = anyio.Event()
        # the row says what was told last, not what arrived last
        self._telling = anyio.Lock()

    @property
    def turn(self) -> int:
        """Counts what was shown; see `until_shown`."""
        return self._turn

    async def until_shown(self, wanted: Callable[[Occurrence], bool], *, after: int) -> Occurrence:
        """Wait until something wanted is what was shown last, later than turn `after`."""
        while self._turn <= after or self.reason is None or not wanted(self.reason):
            await self._shown.wait()
        return self.reason

    async def show(
        self,
        occurrence: Occurrence,
        *,
        sentence: str | None = None,
        retry_in_s: float | None = None,
        **more: Any,
    ) -> None:
        """Write what the table says about the occurrence; waits for Supabase if it is away.

        One that forgets destroys the credentials by the same request: with a second one the lease
        could be gone in between, and the row would say `connected` for ever.

        Args:
            occurrence: what happened.
            sentence: instead of the table's, where more is known.
            retry_in_s: when the bridge (or WhatsApp's block) lets it be tried again.
            more: other columns.

        Raises:
            LeaseLost: if the account is not ours any more.
        """
        transition = TRANSITIONS[occurrence]
        sentence = sentence or transition.sentence
        changes: dict[str, Any] = {
            "status": transition.status.value,
            "status_reason": occurrence.value,
            "status_detail": sentence[:_DETAIL_MAX_CHARS],
            "next_action": transition.next_action.value,
            "retry_at": None if retry_in_s is None else later(retry_in_s),
        }
        if transition.status is not AccountStatus.QR_REQUIRED:
            changes |= _NOTHING_TO_SCAN
        if transition.then is Next.REST:  # to forget is to stop, in the database
            changes["desired"] = Desired.STOPPED.value
        async with self._telling:
            logger.info(
                "Account is now in another state",
                account=self._account,
                status=transition.status.value,
                reason=occurrence.value,
            )
            await self._write(changes | more, forget=transition.then is Next.FORGET)
            self.status, self.reason, self.sentence = transition.status, occurrence, sentence
            self._turn += 1
            self._shown.set()
            self._shown = anyio.Event()

    async def note(self, **columns: Any) -> None:
        """Write other columns; what was shown last stays."""
        await self._write(columns)

    async def report(self, level: str, code: str, sentence: str) -> None:
        """Leave a line in `whatsapp_baileys_events`."""
        await until_available(
            lambda: self._rpc.report(self._account, level, code, sentence), what="report"
        )

    async def want(self, desired: Desired) -> None:
        """Say whether the account should have a session, now and on whichever host."""
        await self._write({"desired": desired.value})

    async def _write(self, changes: dict[str, Any], *, forget: bool = False) -> None:
        write = self._rpc.destroy_session if forget else self._rpc.update_account

        async def attempt() -> None:
            # A request that is cancelled on its way may still be executed, after the next one.
            with anyio.move_on_after(_ATTEMPT_S, shield=True):
                await write(self._account, self._epoch, changes)
                return
            raise SupabaseUnavailable("Supabase took too long to write the account's row.")

        await until_available(attempt, what="update account")


def later(seconds: float) -> dict[str, float]:
    """So many seconds from now, by the clock of the database: that of a host may be wrong."""
    return {"in_s": seconds}
