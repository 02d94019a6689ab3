"""What an error of a send means: was anything sent, and is trying again any use?

whatsmeow gives sentences, no codes (send.go, request.go). Everything before the message stanza is
written fails with a sentence that begins with what it was doing; what fails afterwards may have
reached WhatsApp. A sentence that nobody knows counts as "may have been sent": a message that is
missing can be sent again by a person, one that came twice cannot be taken back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bridge.errors import CommandError
from bridge.events import SendFailed
from bridge.ids import CommandId


@dataclass(frozen=True, slots=True)
class Refusal:
    """One way in which a send fails."""

    code: str
    sentence: str
    outcome_unknown: bool = False
    retryable: bool = False

    def of(self, command_id: CommandId) -> SendFailed:
        """The event that says so."""
        return SendFailed(
            command_id=command_id,
            code=self.code,
            sentence=self.sentence,
            outcome_unknown=self.outcome_unknown,
            retryable=self.retryable,
        )

    def error(self) -> CommandError:
        """The same, as an answer to a request."""
        return CommandError(self.sentence, code=self.code, retryable=self.retryable)


NOT_CONNECTED = Refusal(
    "not_connected", "The account is not connected to WhatsApp at the moment.", retryable=True
)
SESSION_OVER = Refusal(
    "session_over", "The account's session ended before the message was sent.", retryable=True
)
BUSY = Refusal("engine_busy", "Too many messages are waiting to be sent.", retryable=True)
NOT_ON_WHATSAPP = Refusal("recipient_not_on_whatsapp", "This number is not on WhatsApp.")
GROUP_UNAVAILABLE = Refusal(
    "group_unavailable",
    "The group does not exist, or the account is not in it or may not write to it.",
)
TIMELOCK = Refusal(
    "reachout_timelock",
    "WhatsApp does not let this account start new chats for some time.",
)
RATE_LIMITED = Refusal("rate_limited", "WhatsApp asks this account to slow down.", retryable=True)
REJECTED = Refusal("rejected_by_whatsapp", "WhatsApp refused the message.")
WHATSAPP_FAULT = Refusal("whatsapp_fault", "WhatsApp could not take the message.", retryable=True)
NOT_PREPARED = Refusal(
    "send_failed", "The message could not be prepared; nothing was sent.", retryable=True
)
NOT_LEFT = Refusal("engine_died", "The engine ended before the message left it.", retryable=True)
NO_ANSWER = Refusal(
    "no_answer",
    "WhatsApp did not say whether it took the message. It may have been sent.",
    outcome_unknown=True,
)

_SERVER_ERROR = re.compile(r"server returned error (\d+)")
_IQ_STATUS = re.compile(r"info query returned status (\d+)")
_BEFORE_SENDING = re.compile(
    r"failed to (get|fetch|prefetch|save|encrypt|marshal|create|clear|process|generate|put|store)\b"
    r"|failed to send usync|error fetching|can't (send|encrypt)|the store doesn't contain"
    r"|message recipient must be|client is nil|unknown server"
)
_DISCONNECTED = re.compile(r"websocket (not connected|disconnected before)")


def refusal_of(error: str, *, in_group: bool = False) -> Refusal:
    """Sort a sentence of whatsmeow's `SendMessage`."""
    if found := _SERVER_ERROR.search(error):
        status = int(found[1])
        if in_group and status in (403, 404, 420):
            return GROUP_UNAVAILABLE
        return _of_server_error(status)
    if "no LID found" in error:
        return NOT_ON_WHATSAPP
    if "not participating in that group" in error or "group does not exist" in error:
        return GROUP_UNAVAILABLE
    if error.startswith("failed to send message node: websocket not connected"):
        return NOT_CONNECTED
    if found := _IQ_STATUS.search(error):
        return RATE_LIMITED if found[1] == "429" else NOT_PREPARED
    if _BEFORE_SENDING.match(error):
        return NOT_CONNECTED if _DISCONNECTED.search(error) else NOT_PREPARED
    return NO_ANSWER


def error_of_request(error: str) -> CommandError:
    """Sort a sentence of any other request: nothing is lost if it is made again."""
    if "websocket disconnected before" in error:
        return CommandError(
            "The connection was lost before WhatsApp answered.",
            code="connection_lost",
            retryable=True,
        )
    if "websocket" in error:
        return NOT_CONNECTED.error()
    if "timed out" in error:
        return CommandError(
            "WhatsApp did not answer in time.", code="whatsapp_timeout", retryable=True
        )
    if "429" in error:
        return RATE_LIMITED.error()
    return CommandError("WhatsApp refused the request.", code="rejected_by_whatsapp")


def _of_server_error(status: int) -> Refusal:
    if status == 463:
        return TIMELOCK
    if status == 429:
        return RATE_LIMITED
    return WHATSAPP_FAULT if status >= 500 else REJECTED
