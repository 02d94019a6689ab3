"""What executing commands needs of the rest of the bridge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bridge.engine.host import PairByCode, PairByQr
from bridge.ids import AccountId, CommandId, Jid, LeaseEpoch
from bridge.orders import Outgoing, Request
from bridge.states import AccountStatus
from bridge.supabase.answers import Attempt, CommandContext, Finish, HistoryState, Recorded, Unread


class AccountPort(Protocol):
    """What a command can ask of an account."""

    @property
    def own_jid(self) -> Jid | None:
        """Own address, while connected."""

    @property
    def workspace_id(self) -> str:
        """Whose it is."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """As its row says."""

    async def connect(self, pairing: PairByQr | PairByCode) -> AccountStatus:
        """Be connected, or show something to link a phone with."""

    async def disconnect(self) -> None:
        """Close the session, keep the credentials."""

    async def logout(self) -> bool:
        """Unlink and forget; whether WhatsApp was told."""

    async def send(self, command: CommandId, to: Jid, order: Outgoing, attempt: Attempt) -> None:
        """Hand over; returns when the outcome is recorded."""

    async def ask(self, order: Request) -> Any:
        """Have something done at WhatsApp; returns what the order says it answers."""


class Accounts(Protocol):
    """Who runs here."""

    async def find(
        self, account_id: AccountId, epoch: LeaseEpoch, *, within_s: float
    ) -> AccountPort | None:
        """The account under that lease."""


class ExecutorRpc(Protocol):
    """What is needed of the database."""

    async def finish_command(
        self,
        account: AccountId,
        epoch: LeaseEpoch,
        command: CommandId,
        status: Finish,
        *,
        result: Any = None,
        error_code: str | None = None,
        error_message: str | None = None,
        retry_in_s: float | None = None,
        claim: int | None = None,
        counts: bool = True,
    ) -> bool:
        """End a command, or put it back."""

    async def command_context(
        self, account: AccountId, epoch: LeaseEpoch, command: CommandId
    ) -> CommandContext:
        """What a command is about."""

    async def unread_messages(
        self, account: AccountId, epoch: LeaseEpoch, conversation: str, until: str | None
    ) -> list[Unread]:
        """What a `mark_read` means."""

    async def history_state(self, account: AccountId, epoch: LeaseEpoch, days: int) -> HistoryState:
        """How far the history is, and what there is of the last days."""

    async def record_events(
        self, account: AccountId, epoch: LeaseEpoch, events: Sequence[dict[str, Any]]
    ) -> Recorded:
        """Write rows."""
