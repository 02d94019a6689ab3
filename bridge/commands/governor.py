"""How patient and how human sending is, where an engine or a clock of this host is needed for it.

What may go at all, and when, the database decides (`docs/pacing.md`): a claim gives out only what
the pace of the account allows. What remains is how long a retry waits, and typing before a send.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio

from bridge.commands.ports import AccountPort
from bridge.errors import CommandError
from bridge.ids import Jid
from bridge.orders import Media, Outgoing, ShowTyping, Text
from bridge.supabase.answers import Attempt, ClaimedCommand, Retry

MAX_ATTEMPTS = 5
LEAST_RETRY_S = 0.5
FIRST_RETRY_S, MOST_RETRY_S = 4.0, 240.0
# Who was asked to slow down, and who waits for a disk or for Storage, gains nothing by haste.
SLOW_FIRST_RETRY_S, SLOW_MOST_RETRY_S = 60.0, 600.0
SLOW_CODES = frozenset({"rate_limited", "storage_unavailable", "media_no_space"})
# The account is connecting, or changes hosts: that is no try, and costs none.
WAITING_RETRY_S = 1.0
WAITING_CODES = frozenset({"not_connected", "account_gone", "session_over"})

LEAST_TYPING_S = 1.0
MOST_TYPING_S = 8.0
CHARS_A_SECOND = 12.0
TYPING_JITTER = 0.25


def retry_of(code: str, attempts: int) -> Retry | None:
    """When a command that surely did nothing is tried again; None after the last try.

    Args:
        code: why it did not succeed.
        attempts: how often it was tried by now.
    """
    if code in WAITING_CODES:
        return Retry(WAITING_RETRY_S * random.uniform(0.5, 1.5), counts=False)  # noqa: S311
    if attempts >= MAX_ATTEMPTS:
        return None
    is_slow = code in SLOW_CODES
    first_s, most_s = (
        (SLOW_FIRST_RETRY_S, SLOW_MOST_RETRY_S) if is_slow else (FIRST_RETRY_S, MOST_RETRY_S)
    )
    bound_s = min(most_s, first_s * 2.0 ** max(0, attempts - 1))
    # full jitter: what failed together must not come back together
    return Retry(max(LEAST_RETRY_S, random.uniform(0, bound_s)))  # noqa: S311


def attempt_of(command: ClaimedCommand) -> Attempt:
    """What the recording of an outcome has to know of this try."""
    return Attempt(command.claims, lambda code: retry_of(code, command.attempts))


def types_first(payload: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether typing is shown before a send: the command says it, else the account's settings."""
    wanted = payload.get("simulate_typing", settings.get("simulate_typing", False))
    return wanted is True


async def seem_to_type(account: AccountPort, chat: Jid, order: Outgoing) -> None:
    """Show the other person that somebody types (or speaks), as long as a fast person would."""
    speaks = isinstance(order, Media) and order.voice_note
    with suppress(CommandError):  # not worth failing a message for
        await account.ask(ShowTyping(chat=chat, state="recording" if speaks else "composing"))
        await anyio.sleep(typing_s(order))


def typing_s(order: Outgoing) -> float:
    """For how long; never twice exactly the same."""
    chars = len(order.text) if isinstance(order, Text) else 0
    seconds = chars / CHARS_A_SECOND * random.uniform(1 - TYPING_JITTER, 1 + TYPING_JITTER)  # noqa: S311
    return min(MOST_TYPING_S, max(LEAST_TYPING_S, seconds))
