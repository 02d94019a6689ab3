"""Names for the identifiers that cross module borders, so that one is never taken for another."""

from __future__ import annotations

import re
from typing import NewType

AccountId = NewType("AccountId", str)
"""`integration_accounts.id`, a UUID in canonical text form."""

CommandId = NewType("CommandId", str)
"""`commands.id`, a UUID in canonical text form."""

WorkerId = NewType("WorkerId", str)
"""`bridge_workers.id`: a UUID that a host keeps in its state directory over restarts."""

LeaseEpoch = NewType("LeaseEpoch", int)
"""Counts how often an account changed hands. Every write for an account carries it (fencing)."""

Jid = NewType("Jid", str)
"""A WhatsApp address without a device part: `5511…@s.whatsapp.net`, `…@lid`, `…@g.us`."""

WhatsAppMessageId = NewType("WhatsAppMessageId", str)
"""What WhatsApp calls a message; unique per chat and direction, not globally."""

SpoolPosition = NewType("SpoolPosition", int)
"""Place of an event in its account's spool; grows by one an event and never repeats."""

PHONE_SERVER = "s.whatsapp.net"
LID_SERVER = "lid"
GROUP_SERVER = "g.us"

# Brazilian mobile numbers got a ninth digit, and WhatsApp keeps many without it. Eight digits that
# begin with 2 to 5 are somebody's landline.
_NINE = re.compile(r"55([1-9]\d)9([6-9]\d{7})", re.ASCII)
_EIGHT = re.compile(r"55([1-9]\d)([6-9]\d{7})", re.ASCII)


def server_of(jid: Jid) -> str:
    """The part after the `@`, which says what kind of address it is."""
    return jid.partition("@")[2]


def is_group(jid: Jid) -> bool:
    """Whether the address names a group."""
    return server_of(jid) == GROUP_SERVER


def spellings(digits: str) -> list[str]:
    """Under which numbers WhatsApp may know somebody: as given first, then the other Brazilian."""
    if found := _NINE.fullmatch(digits):
        return [digits, f"55{found[1]}{found[2]}"]
    if found := _EIGHT.fullmatch(digits):
        return [digits, f"55{found[1]}9{found[2]}"]
    return [digits]
