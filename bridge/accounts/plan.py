"""What one session of an account is to do; settled before it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bridge.engine.host import PairByCode, PairByQr
from bridge.ids import AccountId, LeaseEpoch


class Mode(StrEnum):
    """What a session is for."""

    RESUME = "resume"
    PAIR = "pair"
    REPLAY = "replay"
    """Only record what the spool holds; no connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Of one session.

    Attributes:
        pairing: how a phone is linked; None unless that is what it is for.
        known_epoch: of what an earlier run of this host left on its disk.
        settles: whether commands that an earlier holder left running are decided, too.
        history_days: 0 = no history is recorded.
        strict: messages wait until they cannot be lost.
        receive_typing: look online, for then WhatsApp tells who types.
    """

    account: AccountId
    epoch: LeaseEpoch
    mode: Mode
    pairing: PairByQr | PairByCode | None
    known_epoch: LeaseEpoch | None
    settles: bool
    history_days: int = 14
    strict: bool = False
    receive_typing: bool = False
