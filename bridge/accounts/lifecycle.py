"""The state machine of an account, as a table: what happened → what its row says, and what is next.

`docs/lifecycles.md` draws it; a test holds the two together. Sentences go to the owner of the
account, so they speak of phones and numbers, not of sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from bridge.states import AccountStatus, NextAction


class Occurrence(StrEnum):
    """What can happen to an account; the value is the row's `status_reason`."""

    STARTING = "starting"
    QR_SHOWN = "qr_shown"
    CODE_SHOWN = "code_shown"
    CONNECTED = "connected"
    PHONE_OFFLINE = "phone_offline"
    CONNECTION_LOST = "connection_lost"
    QR_EXPIRED = "qr_expired"
    PAIR_ERROR = "pair_error"
    PAIRING_INTERRUPTED = "pairing_interrupted"
    PAIRING_FAILED = "pairing_failed"
    DISCONNECTED_BY_USER = "disconnected_by_user"
    LOGGED_OUT_BY_USER = "logged_out_by_user"
    LOGGED_OUT = "logged_out"
    REPLACED = "replaced"
    BANNED = "banned"
    OUTDATED = "outdated"
    CONNECT_FAILURE = "connect_failure"
    UNREACHABLE = "unreachable"
    ENGINE_DIED = "engine_died"
    ENGINE_KEEPS_DYING = "engine_keeps_dying"
    CRASHED = "crashed"
    KEY_UNKNOWN = "key_unknown"
    AUTH_STATE_CORRUPT = "auth_state_corrupt"
    SPOOL_CORRUPT = "spool_corrupt"
    BRIDGE_STOPPED = "bridge_stopped"
    MOVING = "moving"


class Next(StrEnum):
    """What the bridge itself does after it."""

    STAY = "stay"
    """The session goes on."""
    REST = "rest"
    """Until a person asks for a connection: `desired` becomes `stopped`."""
    RETRY = "retry"
    """Connect again after a pause that grows."""
    FORGET = "forget"
    """As REST, and the credentials are destroyed: WhatsApp does not take them any more."""
    LEAVE = "leave"
    """This host lets go of the account, which is wanted as before."""
    HOLD = "hold"
    """Nothing more is tried on this host until somebody changes something and asks again."""


@dataclass(frozen=True, slots=True)
class Transition:
    """What a row says after an occurrence."""

    status: AccountStatus
    sentence: str
    next_action: NextAction
    then: Next


_S, _A = AccountStatus, NextAction

TRANSITIONS: Mapping[Occurrence, Transition] = MappingProxyType(
    {
        Occurrence.STARTING: Transition(
            _S.CONNECTING, "Connecting to WhatsApp.", _A.WAIT, Next.STAY
        ),
        Occurrence.QR_SHOWN: Transition(
            _S.QR_REQUIRED,
            "Scan the QR code with WhatsApp on the phone, under Linked devices.",
            _A.SCAN_QR,
            Next.STAY,
        ),
        Occurrence.CODE_SHOWN: Transition(
            _S.QR_REQUIRED,
            "Type the code into WhatsApp on the phone, under Linked devices.",
            _A.SCAN_QR,
            Next.STAY,
        ),
        Occurrence.CONNECTED: Transition(
            _S.CONNECTED, "Connected to WhatsApp.", _A.NONE, Next.STAY
        ),
        Occurrence.PHONE_OFFLINE: Transition(
            _S.CONNECTED,
            "The phone has not been online for some days; WhatsApp unlinks this device after 14. "
            "Open WhatsApp on the phone.",
            _A.UNBLOCK,
            Next.STAY,
        ),
        Occurrence.CONNECTION_LOST: Transition(
            _S.CONNECTING,
            "The connection to WhatsApp dropped; it is being made again.",
            _A.WAIT,
            Next.STAY,
        ),
        Occurrence.QR_EXPIRED: Transition(
            _S.DISCONNECTED,
            "Nobody scanned the QR code or typed the code in time. Connect again for a new one.",
            _A.SCAN_QR,
            Next.REST,
        ),
        Occurrence.PAIR_ERROR: Transition(
            _S.DISCONNECTED,
            "The phone and WhatsApp did not agree on the link. Connect again for a new code.",
            _A.SCAN_QR,
            Next.REST,
        ),
        Occurrence.PAIRING_INTERRUPTED: Transition(
            _S.DISCONNECTED,
            "Linking was interrupted before the phone had answered. Connect again for a new code.",
            _A.SCAN_QR,
            Next.REST,
        ),
        Occurrence.PAIRING_FAILED: Transition(
            _S.DISCONNECTED,
            "WhatsApp could not be reached to link a phone. Connect again later.",
            _A.SCAN_QR,
            Next.REST,
        ),
        Occurrence.DISCONNECTED_BY_USER: Transition(
            _S.DISCONNECTED,
            "Disconnected on request; connect again without a new link.",
            _A.NONE,
            Next.REST,
        ),
        Occurrence.LOGGED_OUT_BY_USER: Transition(
            _S.LOGGED_OUT,
            "Logged out on request. Connect again to link a phone.",
            _A.SCAN_QR,
            Next.FORGET,
        ),
        Occurrence.LOGGED_OUT: Transition(
            _S.LOGGED_OUT,
            "The phone removed this device, or WhatsApp did. Connect again to link the phone anew.",
            _A.SCAN_QR,
            Next.FORGET,
        ),
        Occurrence.REPLACED: Transition(
            _S.ERROR,
            "Another program took this session over. Make sure that only one uses it, "
            "then connect again.",
            _A.RELINK,
            Next.REST,
        ),
        Occurrence.BANNED: Transition(
            _S.BLOCKED,
            "WhatsApp blocked this number for some time.",
            _A.WAIT,
            Next.REST,
        ),
        Occurrence.OUTDATED: Transition(
            _S.ERROR,
            "WhatsApp does not accept this version of the bridge any more: upgrade it.",
            _A.UPGRADE,
            Next.REST,
        ),
        Occurrence.CONNECT_FAILURE: Transition(
            _S.CONNECTING,
            "WhatsApp refused the connection; it is tried again.",
            _A.WAIT,
            Next.RETRY,
        ),
        Occurrence.UNREACHABLE: Transition(
            _S.CONNECTING, "WhatsApp cannot be reached; it is tried again.", _A.WAIT, Next.RETRY
        ),
        Occurrence.ENGINE_DIED: Transition(
            _S.CONNECTING,
            "The engine of this account stopped; it is started again.",
            _A.WAIT,
            Next.RETRY,
        ),
        Occurrence.ENGINE_KEEPS_DYING: Transition(
            _S.ERROR,
            "The engine of this account stopped again and again, the last times with this account "
            "alone in it. It is paused; connect to try again, and report it.",
            _A.UNBLOCK,
            Next.HOLD,
        ),
        Occurrence.CRASHED: Transition(
            _S.ERROR,
            "The bridge met an internal fault with this account; it tries again.",
            _A.WAIT,
            Next.RETRY,
        ),
        Occurrence.KEY_UNKNOWN: Transition(
            _S.ERROR,
            "The saved session was sealed with a key that BAILEYS_AUTH_SECRET does not hold. "
            "Put the old secret back; nothing was deleted.",
            _A.UNBLOCK,
            Next.HOLD,
        ),
        Occurrence.AUTH_STATE_CORRUPT: Transition(
            _S.ERROR,
            "The saved session is damaged. Restore it from a backup, or log out and link anew; "
            "nothing was deleted.",
            _A.RELINK,
            Next.HOLD,
        ),
        Occurrence.SPOOL_CORRUPT: Transition(
            _S.ERROR,
            "The journal of events on the bridge's disk is damaged or sealed with another key; "
            "nothing was deleted.",
            _A.UNBLOCK,
            Next.HOLD,
        ),
        Occurrence.BRIDGE_STOPPED: Transition(
            _S.DISCONNECTED,
            "The bridge was stopped; the account connects by itself when it starts again.",
            _A.WAIT,
            Next.LEAVE,
        ),
        Occurrence.MOVING: Transition(
            _S.CONNECTING,
            "The account moves to another host of the bridge; it is back in a few seconds.",
            _A.WAIT,
            Next.LEAVE,
        ),
    }
)

# How an engine says that a session is over (`SessionEnded.code`, `PairingFailed.code`, and codes
# of `AccountError`) → what that is for the account. What is missing here is CONNECT_FAILURE.
_ENDS: Mapping[str, Occurrence] = MappingProxyType(
    {
        "logged_out": Occurrence.LOGGED_OUT,
        "replaced": Occurrence.REPLACED,
        "banned": Occurrence.BANNED,
        "outdated": Occurrence.OUTDATED,
        "connect_failure": Occurrence.CONNECT_FAILURE,
        "unreachable": Occurrence.UNREACHABLE,
        "engine_died": Occurrence.ENGINE_DIED,
        "engine_keeps_dying": Occurrence.ENGINE_KEEPS_DYING,
        "qr_expired": Occurrence.QR_EXPIRED,
        "pair_error": Occurrence.PAIR_ERROR,
        "key_unknown": Occurrence.KEY_UNKNOWN,
        "sealed_corrupt": Occurrence.AUTH_STATE_CORRUPT,
        "state_unreadable": Occurrence.AUTH_STATE_CORRUPT,
        "spool_corrupt": Occurrence.SPOOL_CORRUPT,
    }
)


def occurrence_of(code: str) -> Occurrence:
    """What an end of a session means, by the engine's code for it."""
    return _ENDS.get(code, Occurrence.CONNECT_FAILURE)
