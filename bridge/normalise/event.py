"""Event → rows: one match, one line a kind of event."""

from __future__ import annotations

from typing import assert_never

from bridge.events import (
    EventNotUnderstood,
    GroupChanged,
    MessageReceived,
    MessageUndecryptable,
    PersonSeen,
    ReceiptReceived,
    SendFailed,
    SendStarted,
    SendSucceeded,
    SpooledEvent,
)
from bridge.ids import Jid, WhatsAppMessageId
from bridge.normalise.content import Content, content_of
from bridge.normalise.identity import chat_of, peer_of, person_of, sender_of
from bridge.normalise.rows import (
    CommandFinishedRow,
    DiagnosticRow,
    Finish,
    GroupRow,
    MessageRow,
    PersonRow,
    ReceiptRow,
    Row,
    SentRow,
    clean,
    iso,
)

RECEIPT_KINDS = frozenset({"delivered", "read", "played", "read_self"})

# Status posts and channels are no conversations; an inbox does not want them. A setting of the
# account may ask for them in a later version.
_DROPPED_CHATS = frozenset({"status", "newsletter"})


def rows_of(event: SpooledEvent) -> list[Row]:
    """The rows that an event makes, often one, sometimes none. Never raises."""
    match event:
        case MessageReceived():
            return _message(event, content_of(event.message), placeholder=False)
        case MessageUndecryptable():
            unreadable = Content(tipo="unsupported", payload={"placeholder": True})
            return _message(event, unreadable, placeholder=True)
        case ReceiptReceived():
            return _receipt(event)
        case SendStarted():
            return []  # evidence for after a crash; the ledger of `ingest` reads it
        case SendSucceeded():
            return [
                SentRow(
                    command_id=event.command_id,
                    whatsapp_message_id=event.id,
                    sent_at=iso(event.sent_at),
                )
            ]
        case SendFailed():
            return [_failed(event)]
        case PersonSeen():
            person = person_of(event.person)
            return [PersonRow(person=person)] if person.phone_jid or person.lid else []
        case GroupChanged():
            subject = clean(event.subject) if event.subject is not None else None
            return [GroupRow(jid=Jid(clean(event.chat)), subject=subject)]
        case EventNotUnderstood():
            return [
                DiagnosticRow(
                    level="info",
                    code="event_not_understood",
                    message="WhatsApp told something that this version has no name for.",
                    context={"kind": clean(event.kind)},
                )
            ]
        case _:
            assert_never(event)


def _message(
    event: MessageReceived | MessageUndecryptable, content: Content | None, *, placeholder: bool
) -> list[Row]:
    chat = chat_of(event.chat)
    if content is None or chat.kind in _DROPPED_CHATS:
        return []
    return [
        MessageRow(
            whatsapp_message_id=WhatsAppMessageId(clean(event.id)),
            chat=chat,
            peer=peer_of(chat, event.peer),
            sender=sender_of(chat, event.sender),
            from_me=event.from_me,
            tipo=content.tipo,
            conteudo=content.conteudo,
            quoted_whatsapp_message_id=content.quoted,
            mentions=content.mentions,
            payload=content.payload,
            sent_at=iso(event.sent_at),
            placeholder=placeholder,
        )
    ]


def _receipt(event: ReceiptReceived) -> list[Row]:
    chat = chat_of(event.chat)
    if event.kind not in RECEIPT_KINDS or not event.ids or chat.kind in _DROPPED_CHATS:
        return []
    return [
        ReceiptRow(
            chat=chat,
            peer=peer_of(chat, event.peer),
            reader=sender_of(chat, event.reader),
            ids=[WhatsAppMessageId(clean(id_)) for id_ in event.ids],
            type=event.kind,
            at=iso(event.at),
        )
    ]


def _failed(event: SendFailed) -> CommandFinishedRow:
    status: Finish = "pending" if event.retryable else "failed"
    if event.outcome_unknown:
        status = "unknown"
    return CommandFinishedRow(
        command_id=event.command_id,
        status=status,
        error_code=event.code,
        error_message=clean(event.sentence),
    )
