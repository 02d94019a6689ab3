"""What all accounts of a host share, and what is asked of each part of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.accounts.connect_rate import ConnectRate
from bridge.accounts.ledger import SendLedger
from bridge.engine.host import LocalState, PairByCode, PairByQr, Session, UseLocal
from bridge.events import TypingShown
from bridge.ids import AccountId, LeaseEpoch, SpoolPosition
from bridge.supabase.rpc import BridgeRpc
from bridge.vault import Vault


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
        strict: bool = False,
    ) -> Session:
        """Start a session."""

    def local_state(self, account: AccountId) -> LocalState | None:
        """What an earlier run left on this disk."""

    async def local_is_intact(self, account: AccountId) -> bool:
        """Whether that file can be used."""

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
        /,
        *,
        before_sent: Callable[[], Awaitable[None]],
        on_recorded: Callable[[SpoolPosition], None],
    ) -> None:
        """Return when the session delivers no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all accounts share.

    Attributes:
        record: the live way of events.
        seal: makes unreadable what opens a file at WhatsApp.
        files_came: told when files of the past were recorded.
        ring: told when something may be claimable.
        lost: told when an account went that this host did not give away.
        typing: told that somebody types; must not wait.
        connect_rate: bounds how many connect at a time.
    """

    rpc: BridgeRpc
    host: Hosts
    vault: Vault
    record: Recorder
    seal: Callable[[AccountId, dict[str, Any]], dict[str, Any]]
    files_came: Callable[[], None]
    ring: Callable[[], None]
    lost: Callable[[], None]
    typing: Callable[[AccountId, LeaseEpoch, TypingShown], None]
    connect_rate: ConnectRate
