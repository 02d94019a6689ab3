"""`sync_history`: what there is of the past, and a plain no to more.

WhatsApp's own clients ask the phone for older messages with a message of category "peer". neonize's
`SendMessage` takes no category, and it exports no other way to ask (goneonize/main.go), so a phone
sends history only when it is linked.
"""

from __future__ import annotations

from typing import Any

from bridge.commands.payloads import Payload, parse
from bridge.commands.ports import ExecutorRpc
from bridge.errors import CommandError
from bridge.supabase.answers import ClaimedCommand
from bridge.supabase.patience import until_available


class SyncHistoryPayload(Payload, frozen=True):
    """`sync_history`: so many days back."""

    days: int


class HistoryRunning(CommandError):
    """Parts of it are still being recorded."""

    code = "history_running"


class HistoryNotAvailable(CommandError):
    """More than the phone sent when it was linked."""

    code = "history_not_available"


async def sync_history(rpc: ExecutorRpc, command: ClaimedCommand) -> dict[str, Any]:
    """Count what there is of the days asked for.

    Raises:
        HistoryRunning: retryable.
        HistoryNotAvailable: if the phone was not asked for so much when it was linked.
    """
    days = parse(command.payload, SyncHistoryPayload).days
    state = await until_available(
        lambda: rpc.history_state(command.account_id, command.lease_epoch, days),
        what="look at the history",
    )
    if days > state.days:
        raise HistoryNotAvailable(
            "A phone sends its history only when it is linked, and this engine cannot ask it for "
            f"more: {state.days} days were asked for then. Set history_days in the settings of the "
            "account, log out, and link the phone again."
        )
    if state.sync_status == "running":
        raise HistoryRunning("The history is still being recorded.", retryable=True)
    return {
        "days": days,
        "conversations": state.conversations,
        "messages": state.messages,
        "incomplete_conversations": state.incomplete,
    }
