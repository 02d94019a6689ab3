"""neonize's protobuf events in the words of `bridge.events`; pure.

The protobuf classes are not imported here (only `engine.whatsapp` knows neonize): the functions
read fields by name. Anything that holds nothing for a person gives None.
"""

from __future__ import annotations

from typing import Any, Literal

from google.protobuf.json_format import MessageToDict
from google.protobuf.unknown_fields import UnknownFieldSet

from bridge.engine.history import Announced
from bridge.events import (
    EventNotUnderstood,
    MessageReceived,
    MessageUndecryptable,
    Person,
    ReceiptReceived,
    SpooledEvent,
    TypingShown,
)
from bridge.ids import (
    GROUP_SERVER,
    LID_SERVER,
    PHONE_SERVER,
    Jid,
    WhatsAppMessageId,
    server_of,
)

BROADCAST_SERVER = "broadcast"
NEWSLETTER_SERVER = "newsletter"

# Keys and context that travel with messages; alone they say nothing.
LUGGAGE = {
    "senderKeyDistributionMessage",
    "fastRatchetKeySenderKeyDistributionMessage",
    "messageContextInfo",
}
_REVOKE, _DISAPPEARING, _EDIT = 0, 3, 14
_FOR_PEOPLE = {_REVOKE, _DISAPPEARING, _EDIT}

_COMPOSES, _AUDIO = 1, 2  # Neonize_pb2.ChatPresence
# Neonize_pb2.Receipt.ReceiptType. INACTIVE means "a device has it, nobody looks": WhatsApp's own
# apps show nothing for it. SENDER, RETRY, PEER_MSG and the like are between devices.
_RECEIPTS = {1: "delivered", 4: "read", 5: "read_self", 6: "played"}


def jid(proto: Any) -> Jid | None:
    """An address without its device; None if it is empty."""
    if not proto.Server or (not proto.User and proto.Server != NEWSLETTER_SERVER):
        return None
    return Jid(f"{proto.User}@{proto.Server}")


def person(*addresses: Jid | None, push_name: str | None = None) -> Person | None:
    """Somebody, from the addresses that are known; None if none names a person."""
    phone = next((a for a in addresses if a and server_of(a) == PHONE_SERVER), None)
    lid = next((a for a in addresses if a and server_of(a) == LID_SERVER), None)
    if phone is None and lid is None:
        return None
    return Person(phone_jid=phone, lid=lid, push_name=push_name or None)


def seconds(timestamp: int) -> float:
    """Unix seconds; neonize gives milliseconds in some events."""
    return timestamp / 1000 if timestamp > 100_000_000_000 else float(timestamp)


def message(proto: Any, own: Person) -> SpooledEvent | None:
    """A `Message` event."""
    info = proto.Info
    if info.Category == "peer" or not _says_something(proto.Message):
        return None
    place = _place(info.MessageSource, own, info.Pushname)
    if place is None:
        return _nobody(info.MessageSource)
    chat, peer, sender = place
    return MessageReceived(
        id=WhatsAppMessageId(info.ID),
        chat=chat,
        peer=peer,
        sender=sender,
        from_me=info.MessageSource.IsFromMe,
        sent_at=seconds(info.Timestamp),
        message=json_of(proto.Message),
        edit=info.Edit,
        view_once=proto.IsViewOnce or proto.IsViewOnceV2 or proto.IsViewOnceV2Extension,
    )


def is_of_the_phone(proto: Any) -> bool:
    """Whether a `Message` or `Receipt` event shows that the own phone (device 0) is online."""
    source = getattr(proto, "Info", proto).MessageSource
    return bool(source.IsFromMe) and source.Sender.Device == 0


def announced_history(proto: Any) -> Announced | None:
    """What a `Message` event between own devices says of a history that is to be fetched."""
    info, content = proto.Info, proto.Message
    if info.Category != "peer" or not content.HasField("protocolMessage"):
        return None
    if not content.protocolMessage.HasField("historySyncNotification"):
        return None
    told = content.protocolMessage.historySyncNotification
    if not told.directPath:
        return None  # it came with the message: there is nothing to fetch
    return Announced(
        sync_type=told.syncType,
        chunk=told.chunkOrder,
        direct_path=told.directPath,
        media_key=told.mediaKey,
        file_sha256=told.fileSHA256,
        file_enc_sha256=told.fileEncSHA256,
    )


def undecryptable(proto: Any, own: Person) -> SpooledEvent | None:
    """An `UndecryptableMessage` event."""
    info = proto.Info
    # its sender says that nobody would miss it, or it changes another message and comes again
    hidden = proto.DecryptFailMode == 2 or bool(info.Edit)
    if info.Category == "peer" or hidden:
        return None
    place = _place(info.MessageSource, own, info.Pushname)
    if place is None:
        return _nobody(info.MessageSource)
    chat, peer, sender = place
    return MessageUndecryptable(
        id=WhatsAppMessageId(info.ID),
        chat=chat,
        peer=peer,
        sender=sender,
        from_me=info.MessageSource.IsFromMe,
        sent_at=seconds(info.Timestamp),
        unavailable=proto.IsUnavailable,
    )


def receipt(proto: Any, own: Person) -> SpooledEvent | None:
    """A `Receipt` event."""
    kind = _RECEIPTS.get(proto.Type)
    if kind and proto.MessageSource.IsFromMe:
        # another own device: that it got a message is nobody's business, that it read one is
        kind = "read_self" if kind in {"read", "read_self"} else None
    if kind is None:
        return None
    place = _place(proto.MessageSource, own, None)
    if place is None:
        return None
    chat, peer, reader = place
    return ReceiptReceived(
        ids=[WhatsAppMessageId(each) for each in proto.MessageIDs],
        chat=chat,
        peer=peer,
        reader=reader,
        kind=kind,
        at=seconds(proto.Timestamp),
    )


def typing(proto: Any) -> TypingShown | None:
    """A `ChatPresence` event; None if nobody is named, or it is the account itself."""
    source = proto.MessageSource
    chat = jid(source.Chat)
    who = person(jid(source.Sender), jid(source.SenderAlt))
    if chat is None or who is None or source.IsFromMe:
        return None
    state: Literal["composing", "recording", "paused"] = "paused"
    if proto.State == _COMPOSES:
        state = "recording" if proto.Media == _AUDIO else "composing"
    return TypingShown(chat=chat, person=who, state=state)


def json_of(content: Any) -> dict[str, Any]:
    """The protobuf JSON; a kind that is newer than our protobufs is named by its number."""
    found: dict[str, Any] = MessageToDict(content)
    if not set(found) - LUGGAGE:
        unknown = UnknownFieldSet(content)
        found |= {f"field{unknown[place].field_number}": {} for place in range(len(unknown))}
    return found


def _says_something(content: Any) -> bool:
    names = {field.name for field, _ in content.ListFields()}
    if names == {"protocolMessage"} or names - LUGGAGE == {"protocolMessage"}:
        return content.protocolMessage.type in _FOR_PEOPLE
    # a kind that is newer than our protobufs is an unknown field
    return bool(names - LUGGAGE) or len(UnknownFieldSet(content)) > 0


def _place(
    source: Any, own: Person, push_name: str | None
) -> tuple[Jid, Person | None, Person] | None:
    """Chat, the other person of a direct chat, and who acted; None if it is not about people."""
    chat, sender = jid(source.Chat), jid(source.Sender)
    if chat is None:
        return None
    if server_of(chat) == NEWSLETTER_SERVER:
        return chat, None, own if source.IsFromMe else Person()
    by = own if source.IsFromMe else person(sender, jid(source.SenderAlt), push_name=push_name)
    if by is None:
        return None
    if server_of(chat) in {GROUP_SERVER, BROADCAST_SERVER}:
        return chat, None, by
    if source.IsFromMe:
        peer = person(chat, jid(source.RecipientAlt))
    else:
        peer = person(chat, jid(source.SenderAlt), push_name=push_name)
    return None if peer is None else (chat, peer, by)


def _nobody(source: Any) -> EventNotUnderstood:
    return EventNotUnderstood(kind=f"message from {source.Sender.Server or 'nobody'}")
