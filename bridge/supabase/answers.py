"""What the SQL functions answer, parsed once: nobody else sees a dictionary of the database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

from bridge.ids import AccountId, CommandId, Jid, LeaseEpoch, WhatsAppMessageId, WorkerId
from bridge.states import AccountStatus, Desired


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers. Unknown columns are ignored: a newer database may say more."""


class Registered(Row, frozen=True):
    """Answer of `bridge_register_worker`."""

    server_time: datetime
    schema_version: int


class Worker(Row, frozen=True):
    """A host that was alive within the last days.

    Attributes:
        load: counts, as it told them with its last heartbeat.
    """

    id: WorkerId
    last_seen_at: datetime
    hostname: str | None = None
    load: dict[str, Any] = {}


class Check(Row, frozen=True):
    """Answer of `bridge_check`: what start-up and `wabridge doctor` need to know.

    Attributes:
        sealed_key_ids: the key ids that sealed the stored sessions, each once.
    """

    schema_version: int
    server_time: datetime
    bucket: bool
    publication_missing: list[str] = []
    sealed_key_ids: list[str] = []
    accounts: int = 0
    workers: list[Worker] = []


class Lease(Row, frozen=True):
    """An account that this worker holds, as of the answer.

    Attributes:
        previous_owner: set when it was claimed just now, from whom.
        wanted_elsewhere: another host has fewer accounts and asked for this one.
        phone_silent_s: since when the phone itself showed no sign of life; None = never noted.
        renewed: False if it holds only as long as it did before.
    """

    account_id: AccountId
    workspace_id: str
    lease_epoch: LeaseEpoch
    desired: Desired
    status: AccountStatus
    settings: dict[str, Any] = {}
    has_auth_state: bool = False
    generation: int = 0
    previous_owner: str | None = None
    wanted_elsewhere: bool = False
    phone_silent_s: float | None = None
    renewed: bool = True


class LeaseEpochRow(Row, frozen=True):
    """Under which epoch an account is, or was last, held, and by whom."""

    account_id: AccountId
    lease_epoch: LeaseEpoch
    lease_owner: str | None = None


class SealedItem(Row, frozen=True):
    """Something sealed.

    Attributes:
        what: `session`, `change` (of a session) or `media`.
        generation: what it is tied to.
    """

    what: str
    id: str
    account_id: AccountId
    generation: int
    sealed: dict[str, Any]


class ClaimedCommand(Row, frozen=True):
    """A row of `commands` that is now this worker's to execute.

    Attributes:
        attempts: how often it was tried, this time included.
        claims: how often it was taken, this time included.
        age_s: since it was inserted.
    """

    id: CommandId
    account_id: AccountId
    lease_epoch: LeaseEpoch
    type: str
    payload: dict[str, Any]
    attempts: int
    claims: int
    conversation_id: str | None = None
    chat_jid: Jid | None = None
    message_id: str | None = None
    expires_at: datetime | None = None
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Retry:
    """A command is done again.

    Attributes:
        counts: False if it was not even tried: the account was not there.
    """

    after_s: float
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a send.

    Attributes:
        claim: how often the command had been taken by then; it tells a late answer from a new one.
        again: whether it is tried again after a fault of that code, when it surely did not leave.
    """

    claim: int
    again: Callable[[str], Retry | None]


class Delta(Row, frozen=True):
    """Pages of a session file that changed since the generation before."""

    generation: int
    delta: dict[str, Any]


class StoredSession(Row, frozen=True):
    """A session's sealed state: a base and the deltas on top of it, in order.

    Attributes:
        generation: of the newest part; 0 if nothing was ever saved.
        is_behind: the session before did not end cleanly, and heard something after the last save.
        auth_state: sealed base, or None when the account was never linked.
    """

    generation: int
    is_behind: bool = False
    auth_state: dict[str, Any] | None = None
    deltas: list[Delta] = []


class ClaimedAttachment(Row, frozen=True):
    """A file that is now this worker's to fetch.

    Attributes:
        sealed: path and key of the file at WhatsApp.
        media_limits: of the account's settings; what is missing has its default.
    """

    id: str
    account_id: AccountId
    workspace_id: str
    lease_epoch: LeaseEpoch
    conversation_id: str
    message_id: str
    kind: str
    sealed: dict[str, Any]
    attempts: int
    mime_type: str | None = None
    file_name: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    media_limits: dict[str, Any] = {}


class PhoneChat(Row, frozen=True):
    """A chat, and by which addresses WhatsApp may name it."""

    id: str
    jids: list[Jid]


class OldPicture(Row, frozen=True):
    """A file in the bucket that nothing names any more."""

    id: str
    path: str


class ClaimedPicture(Row, frozen=True):
    """A picture of a person or group that is now this worker's to fetch.

    Attributes:
        jid: whom to ask for.
        picture_id: what WhatsApp called the picture that is stored.
    """

    id: str
    account_id: AccountId
    workspace_id: str
    lease_epoch: LeaseEpoch
    jid: Jid
    attempts: int
    picture_id: str | None = None


class Unread(Row, frozen=True):
    """A message of somebody else that is to be marked as read."""

    whatsapp_message_id: WhatsAppMessageId
    sender_jid: Jid
    sent_at: datetime
    chat_jid: Jid


class TargetFile(Row, frozen=True):
    """The stored file of a message."""

    path: str
    mime_type: str | None = None
    file_name: str | None = None


class Target(Row, frozen=True):
    """The message that a command is about, or that a `send` answers.

    Attributes:
        file: if it has one that is in the bucket.
        whatsapp_message_id: None if it has not been sent (yet), or is gone.
        call_id: of a call's row, what WhatsApp calls the call.
    """

    whatsapp_message_id: WhatsAppMessageId | None = None
    sender_jid: Jid | None = None
    from_me: bool = False
    tipo: str = "text"
    text: str = ""
    call_id: str | None = None
    revoked: bool = False
    file: TargetFile | None = None


class CommandContext(Row, frozen=True):
    """What a command means beyond its payload.

    Attributes:
        numbers: `check_numbers`: the numbers as digits, in their order.
    """

    target: Target | None = None
    numbers: list[str] | None = None


class Recorded(Row, frozen=True):
    """Answer of `bridge_record_events` and `bridge_record_history`.

    Attributes:
        groups_unknown: groups whose subject or people the database does not have yet.
        held_s: how long others who write in the workspace had to wait for this call.
    """

    recorded: int = 0
    groups_unknown: list[Jid] = []
    held_s: float = 0.0


class HistoryState(Row, frozen=True):
    """Answer of `bridge_history_state`.

    Attributes:
        days: that were wanted when the phone was linked; 0 = there was no history yet.
        conversations, messages: of the days asked about.
        incomplete: conversations of which the phone has more.
    """

    sync_status: str
    sync_progress: int
    days: int = 0
    conversations: int = 0
    messages: int = 0
    incomplete: int = 0


class Settled(Row, frozen=True):
    """Answer of `bridge_settle_commands`."""

    requeued: int = 0
    unknown: int = 0


class ListedAccount(Row, frozen=True):
    """A line of `wabridge accounts list`; the number is masked by the database."""

    id: AccountId
    workspace_id: str
    nome: str | None
    status: AccountStatus
    status_reason: str | None = None
    next_action: str | None = None
    numero: str | None = None
    lease_owner: str | None = None
    lease_expires_at: datetime | None = None
    last_connected_at: datetime | None = None


Finish = Literal["done", "failed", "unknown", "pending"]
FileEnd = Literal["stored", "failed", "expired", "pending"]
PictureEnd = Literal["stored", "unchanged", "none", "hidden", "failed", "pending"]
