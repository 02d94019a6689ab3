"""What all accounts of a host share, and what is asked of each part of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.accounts.connect_rate import ConnectRate
from bridge.accounts.ledger import SendLedger
from bridge.engine.files import LocalState, UseLocal
from bridge.engine.host import PairByCode, PairByQr
from bridge.engine.session import Session
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

    async def forget(self, account: AccountId) -> None:
        """Delete a session file."""


class Files(Protocol):
    """What is needed of the disk."""

    def local_state(self, account: AccountId) -> LocalState | None:
        """What an earlier run left of the account."""

    async def local_is_intact(self, account: AccountId) -> bool:
        """Whether that file can be used."""

    async def has_unrecorded_events(self, account: AccountId) -> bool:
        """Whether the spool is not empty."""


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
    files: Files
    vault: Vault
    record: Recorder
    seal: Callable[[AccountId, dict[str, Any]], dict[str, Any]]
    files_came: Callable[[], None]
    ring: Callable[[], None]
    lost: Callable[[], None]
    typing: Callable[[AccountId, LeaseEpoch, TypingShown], None]
    connect_rate: ConnectRate
