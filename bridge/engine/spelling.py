"""Numbers that people write in another way than WhatsApp does; pure.

Brazilian mobiles got a ninth digit years ago. WhatsApp keeps many numbers without it, and a message
to the other spelling goes nowhere, so somebody new is looked up under both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.events import Person
from bridge.ids import PHONE_SERVER, Jid, spellings


def other_numbers(to: Jid) -> list[str]:
    """Both spellings of a number, as given first; empty if there is only one."""
    number, _, server = to.partition("@")
    both = spellings(number) if server == PHONE_SERVER else []
    return both if len(both) > 1 else []


def person_found(answers: Sequence[dict[str, Any]]) -> Person | None:
    """Whom WhatsApp has, of what `CheckNumbers` answers: the first one."""
    found = next((each for each in answers if each["jid"]), None)
    return None if found is None else Person(phone_jid=found["jid"], lid=found["lid"])
