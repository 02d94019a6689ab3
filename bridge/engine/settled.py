"""What became of sends that a killed engine had begun in strict mode; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bridge.engine import outcome
from bridge.events import SendFailed, SendReleased, SendStarted, SendSucceeded, SpooledEvent
from bridge.ids import CommandId, WhatsAppMessageId


def outcomes(
    journal: Iterable[SpooledEvent], written: Mapping[WhatsAppMessageId, bool]
) -> list[SpooledEvent]:
    """Outcomes of sends that the journal says began and does not say how they ended.

    One that was held to the end did not leave. One that was released left if its bytes were seen
    on the wire. What nobody watched stays open: it ends `unknown`.

    Args:
        journal: what is unconfirmed, in order.
        written: whether released messages reached the wire.
    """
    begun: dict[CommandId, SendReleased | None] = {}
    for event in journal:
        match event:
            case SendStarted(held=True):
                begun[event.command_id] = None
            case SendReleased():
                begun[event.command_id] = event
            case SendStarted() | SendSucceeded() | SendFailed():
                begun.pop(event.command_id, None)
            case _:
                continue
    found: list[SpooledEvent] = []
    for command, released in begun.items():
        if released is None or written.get(released.id) is False:
            found.append(outcome.NOT_LEFT.of(command))
        elif written.get(released.id):
            found.append(SendSucceeded(command_id=command, id=released.id, sent_at=released.at))
    return found
