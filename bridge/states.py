"""The states that rows go through. The names equal the SQL; docs/lifecycles.md draws them."""

from __future__ import annotations

from enum import StrEnum


class AccountStatus(StrEnum):
    """`integration_accounts.status`."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    QR_REQUIRED = "qr_required"
    CONNECTED = "connected"
    LOGGED_OUT = "logged_out"
    BLOCKED = "blocked"
    ERROR = "error"


class NextAction(StrEnum):
    """`integration_accounts.next_action`: what a person has to do, if anything."""

    NONE = "none"
    SCAN_QR = "scan_qr"
    WAIT = "wait"
    RELINK = "relink"
    UPGRADE = "upgrade"
    UNBLOCK = "unblock"


class Desired(StrEnum):
    """`whatsapp_baileys_sessions.desired`: whether the account should have a session."""

    RUNNING = "running"
    STOPPED = "stopped"


class CommandStatus(StrEnum):
    """`commands.status`."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
