"""How sessions end, from what neonize says; pure."""

from __future__ import annotations

from typing import Any

from bridge.events import PairingFailed, SessionEnded, Signal

# whatsmeow qrchan.go; what is not here is a failure
_NOT_THE_END = {"err-scanned-without-multidevice"}

# Neonize_pb2.ConnectFailureReason, the ones that mean something else than "try again". whatsmeow
# has events of their own for most of them; a later version may have one less.
_FINAL_REASONS = {
    2: "logged_out",
    3: "banned",
    4: "logged_out",  # the main device is gone
    5: "logged_out",
    6: "outdated",
    7: "outdated",  # a user agent that WhatsApp does not know
}


def of_return(error: str, *, opened: bool, known: bool) -> SessionEnded:
    """`Neonize` came back by itself: it could not connect, or stumbled over an event.

    Args:
        error: in whatsmeow's words.
        opened: it got as far as connecting.
        known: it said which device it is, which comes after the connection.
    """
    if not opened:
        return SessionEnded(code="connect_failure", detail="The session file could not be opened.")
    if not known:
        return SessionEnded(code="unreachable", detail="WhatsApp could not be reached.")
    # an event that lacks a required field, a reason mostly, cannot be encoded and ends the loop
    if "LoggedOut" in error:
        return SessionEnded(code="logged_out")
    if "TemporaryBan" in error:
        return SessionEnded(code="banned")
    return SessionEnded(code="connect_failure", detail="The engine lost this session.")


def of_pairing(word: str) -> Signal | None:
    """What whatsmeow's QR channel ended with, other than success; None if it goes on."""
    if word in _NOT_THE_END:
        return None
    if word == "timeout":
        return PairingFailed(code="qr_expired")
    if word == "err-client-outdated":
        return SessionEnded(code="outdated")
    return PairingFailed(code="pair_error")


def of_event(name: str, proto: Any) -> SessionEnded:
    """An event after which whatsmeow does not come back; ``name`` as in `whatsapp.Kind`."""
    match name:
        case "LOGGED_OUT":
            return SessionEnded(code="logged_out")
        case "REPLACED":
            return SessionEnded(code="replaced")
        case "OUTDATED":
            return SessionEnded(code="outdated")
        case "BANNED":
            return SessionEnded(code="banned", retry_after_s=float(proto.Expire) or None)
    if name == "CONNECT_FAILURE" and proto.Reason in _FINAL_REASONS:
        return SessionEnded(code=_FINAL_REASONS[proto.Reason])
    return SessionEnded(code="connect_failure", detail="WhatsApp refused the connection.")
