"""Event → rows: one match, one line a kind of event."""

from __future__ import annotations

from typing import assert_never

from bridge.events import (
    CallTold,
    EventNotUnderstood,
    GroupNews,
    MessageReceived,
    MessageUndecryptable,
    PersonSeen,
    PictureChanged,
    ReceiptReceived,
    SendFailed,
    SendStarted,
    SendSucceeded,
    SpooledEvent,
)
from bridge.ids import WhatsAppMessageId
from bridge.normalise.calls import row_of_call
from bridge.normalise.changes import change_of, is_change
from bridge.normalise.content import Content, content_of
from bridge.normalise.groups import rows_of_news
from bridge.normalise.identity import chat_of, peer_of, person_of, sender_of
from bridge.normalise.rows import (
    CommandFinishedRow,
    DiagnosticRow,
    Finish,
    MessageRow,
    PersonRow,
    PictureRow,
    ReceiptRow,
    Row,
    SentRow,
    clean,
    iso,
)

RECEIPT_KINDS = frozenset({"delivered", "read", "played", "read_self"})
# who looked at a status post is nobody's business here
_NO_RECEIPTS = frozenset({"status", "newsletter"})


def rows_of(event: SpooledEvent) -> list[Row]:  # noqa: C901, PLR0912 - one line a kind
    """The rows that an event makes, often one, sometimes none. Never raises."""
    match event:
        case MessageReceived() if is_change(event.message):
            return _change(event)
        case MessageReceived():
            content = content_of(event.message, view_once=event.view_once)
            return _message(event, content, placeholder=False)
        case MessageUndecryptable():
            payload = {"placeholder": True} | ({"unavailable": True} if event.unavailable else {})
            unreadable = Content(tipo="unsupported", payload=payload)
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
        case PictureChanged():
            return [PictureRow(person=person_of(event.person))]
        case GroupNews():
            return rows_of_news(event)
        case CallTold():
            call = row_of_call(event)
            return [call] if call is not None else []
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
    if content is None:
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
            attachment=content.attachment,
        )
    ]


def _change(event: MessageReceived) -> list[Row]:
    change = change_of(event)
    if change is not None:
        return [change]
    is_vote = "pollUpdateMessage" in event.message
    return [
        DiagnosticRow(
            level="info",
            code="poll_vote_unreadable" if is_vote else "change_not_understood",
            message="A vote could not be decrypted: its poll is not known here."
            if is_vote
            else "A message changes another one in a way that this version does not understand.",
            context={"whatsapp_message_id": clean(event.id)},
        )
    ]


def _receipt(event: ReceiptReceived) -> list[Row]:
    chat = chat_of(event.chat)
    if event.kind not in RECEIPT_KINDS or not event.ids or chat.kind in _NO_RECEIPTS:
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
