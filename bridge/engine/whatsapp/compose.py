"""From what is to be sent to WhatsApp's protobuf of it. Pure; files are uploaded before."""

from __future__ import annotations

import secrets
import time
from typing import Any

from neonize.proto.waCommon.WACommon_pb2 import MessageKey
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import (
    ContactMessage,
    ContactsArrayMessage,
    ContextInfo,
    ExtendedTextMessage,
    FutureProofMessage,
    LiveLocationMessage,
    LocationMessage,
    Message,
    MessageContextInfo,
    PollCreationMessage,
    ProtocolMessage,
    ReactionMessage,
)

from bridge.engine.whatsapp.file_messages import media_message
from bridge.ids import Jid, WhatsAppMessageId, is_group
from bridge.orders import (
    Contact,
    Edit,
    LinkPreview,
    Location,
    Media,
    Outgoing,
    Poll,
    Reaction,
    Revoke,
    Shown,
    Text,
)

# Votes are encrypted with it; who has the message has it too.
_POLL_SECRET_BYTES = 32
# vCard 3.0 (RFC 2426) escapes; a line break would begin another property
_VCARD_ESCAPES = str.maketrans(
    {"\\": "\\\\", ";": "\\;", ",": "\\,", "\n": "\\n", "\r": "", "\x00": ""}
)


def message_of(order: Outgoing, to: Jid) -> Any:
    """The `waE2E.Message` of an order for a chat."""
    match order:
        case Text():
            return _text(order)
        case Location():
            return _location(order)
        case Contact():
            return _contact(order)
        case Poll():
            return _poll(order)
        case Reaction():
            return Message(
                reactionMessage=ReactionMessage(
                    key=_key(order.target, to, order.target_sender, from_me=order.target_from_me),
                    text=order.emoji,
                    senderTimestampMS=_now_ms(),
                )
            )
        case Edit():
            return _edit(order, to)
        case Revoke():
            return Message(
                protocolMessage=ProtocolMessage(
                    type=ProtocolMessage.REVOKE,
                    key=_key(order.target, to, order.target_sender, from_me=order.target_from_me),
                )
            )
        case Media():
            return media_message(order, context_of(order))


def context_of(order: Shown) -> Any:
    """What a message answers, whom it mentions, and so on; None if there is nothing to say."""
    context = ContextInfo(mentionedJID=order.mentions)
    if (quote := order.quote) is not None:
        context.stanzaID = quote.id
        context.participant = quote.sender
        context.quotedMessage.conversation = quote.text
    if order.forwarded:
        context.isForwarded = True
        context.forwardingScore = 1
    if order.disappears_after_s:
        context.expiration = order.disappears_after_s
    return context if context.ByteSize() else None


def _location(order: Location) -> Any:
    if order.live:
        return Message(
            liveLocationMessage=LiveLocationMessage(
                degreesLatitude=order.latitude,
                degreesLongitude=order.longitude,
                caption=order.caption,
                sequenceNumber=1,
                contextInfo=context_of(order),
            )
        )
    return Message(
        locationMessage=LocationMessage(
            degreesLatitude=order.latitude,
            degreesLongitude=order.longitude,
            name=order.name,
            address=order.address,
            contextInfo=context_of(order),
        )
    )


def _contact(order: Contact) -> Any:
    cards = [
        ContactMessage(displayName=card.name, vcard=vcard_of(card.name, card.numbers))
        for card in order.cards
    ]
    context = context_of(order)
    if len(cards) == 1:
        if context is not None:
            cards[0].contextInfo.CopyFrom(context)
        return Message(contactMessage=cards[0])
    return Message(
        contactsArrayMessage=ContactsArrayMessage(
            displayName=", ".join(card.name for card in order.cards),
            contacts=cards,
            contextInfo=context,
        )
    )


def vcard_of(name: str, numbers: list[str]) -> str:
    """A contact card as WhatsApp's apps write it; the numbers are E.164 digits."""
    safe = name.translate(_VCARD_ESCAPES)
    lines = ["BEGIN:VCARD", "VERSION:3.0", f"N:;{safe};;;", f"FN:{safe}"]
    lines += (f"TEL;type=CELL;waid={number}:+{number}" for number in numbers)
    return "\n".join([*lines, "END:VCARD"])


def _text(order: Text) -> Any:
    context = context_of(order)
    if context is None and order.preview is None:
        return Message(conversation=order.text)
    text = ExtendedTextMessage(text=order.text, contextInfo=context)
    if order.preview is not None:
        _add_preview(text, order.preview)
    return Message(extendedTextMessage=text)


def _add_preview(text: Any, preview: LinkPreview) -> None:
    text.matchedText = preview.url
    text.title = preview.title
    if preview.description is not None:
        text.description = preview.description
    if preview.thumbnail is not None:
        text.JPEGThumbnail = preview.thumbnail


def _poll(order: Poll) -> Any:
    poll = PollCreationMessage(
        name=order.question,
        options=[PollCreationMessage.Option(optionName=option) for option in order.options],
        selectableOptionsCount=order.selectable,
        contextInfo=context_of(order),
    )
    context = MessageContextInfo(messageSecret=secrets.token_bytes(_POLL_SECRET_BYTES))
    # apps take the poll of which one option may be chosen under its own name
    if order.selectable == 1:
        return Message(pollCreationMessageV3=poll, messageContextInfo=context)
    return Message(pollCreationMessage=poll, messageContextInfo=context)


def _edit(order: Edit, to: Jid) -> Any:
    if order.media is None:
        edited = _text(Text(text=order.text, mentions=order.mentions))
    else:
        edited = media_message(order.media, context_of(order.media))
    change = ProtocolMessage(
        type=ProtocolMessage.MESSAGE_EDIT,
        key=_key(order.target, to, None, from_me=True),
        editedMessage=edited,
        timestampMS=_now_ms(),
    )
    return Message(editedMessage=FutureProofMessage(message=Message(protocolMessage=change)))


def _key(target: WhatsAppMessageId, chat: Jid, sender: Jid | None, *, from_me: bool) -> Any:
    key = MessageKey(ID=target, remoteJID=chat, fromMe=from_me)
    if not from_me and sender is not None and is_group(chat):
        key.participant = sender
    return key


def _now_ms() -> int:
    return int(time.time() * 1000)
