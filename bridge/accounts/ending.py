"""Why a session ended: told by the engine, or by a fault."""

from __future__ import annotations

from dataclasses import dataclass

from loguru import logger

from bridge.accounts.lifecycle import Occurrence, occurrence_of
from bridge.errors import AccountError, BridgeError, LeaseLost
from bridge.events import SessionEnded


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a session ended.

    Attributes:
        occurrence: None if we asked for it.
        sentence: instead of the table's, where more is known.
        retry_after_s: how long WhatsApp blocks the number.
    """

    occurrence: Occurrence | None
    sentence: str | None = None
    retry_after_s: float | None = None


def ended_with(signal: SessionEnded) -> Ended:
    """What the engine's last word means.

    Raises:
        LeaseLost: the engine was not told of a renewed lease in time.
    """
    if signal.code == "lease_expired":
        raise LeaseLost("The lease was not renewed in time.")
    if signal.code == "stopped":
        return Ended(None)
    if signal.detail:
        logger.info("A session ended", code=signal.code, detail=signal.detail)
    occurrence = occurrence_of(signal.code)
    # it stands for many ends, and not all of them are WhatsApp's
    sentence = signal.detail or None if occurrence is Occurrence.CONNECT_FAILURE else None
    return Ended(occurrence, sentence, retry_after_s=signal.retry_after_s)


def ended_by(fault: AccountError) -> Ended:
    """What a fault of the account means for its session."""
    occurrence = occurrence_of(fault.code)
    if occurrence is Occurrence.CONNECT_FAILURE:  # here, of this host and not of WhatsApp
        logger.warning("A session was ended by a fault", code=fault.code, reason=fault.sentence)
    tells_more = occurrence in (Occurrence.KEY_UNKNOWN, Occurrence.CONNECT_FAILURE)
    return Ended(occurrence, fault.sentence if tells_more else None)


def first_of(group: BaseExceptionGroup[BridgeError]) -> BridgeError:
    """The fault that counts: a lost lease before all others."""
    faults = [
        first_of(inner) if isinstance(inner, BaseExceptionGroup) else inner
        for inner in group.exceptions
    ]
    return next((fault for fault in faults if isinstance(fault, LeaseLost)), faults[0])
