"""Who and where: people and chats as rows name them."""

from __future__ import annotations

from bridge.events import Person
from bridge.ids import GROUP_SERVER, LID_SERVER, Jid, server_of
from bridge.normalise.rows import Chat, ChatKind, PersonPart, clean

STATUS_JID = Jid("status@broadcast")


def chat_of(jid: Jid) -> Chat:
    """The chat with its kind, which the server part of the address tells."""
    return Chat(jid=Jid(clean(jid)), kind=_kind(jid))


def _kind(jid: Jid) -> ChatKind:
    if jid == STATUS_JID:
        return "status"
    match server_of(jid):
        case str(server) if server == GROUP_SERVER:
            return "group"
        case "newsletter":
            return "newsletter"
        case "broadcast":
            return "broadcast"
        case _:
            return "direct"


def person_of(person: Person) -> PersonPart:
    """A person; an address in the wrong place (a LID as phone) is put right."""
    phone, lid = person.phone_jid, person.lid
    if phone and server_of(phone) == LID_SERVER:
        phone, lid = None, lid or phone
    return PersonPart(
        phone_jid=Jid(clean(phone)) if phone else None,
        lid=Jid(clean(lid)) if lid else None,
        push_name=clean(person.push_name) if person.push_name else None,
    )


def peer_of(chat: Chat, peer: Person | None) -> PersonPart | None:
    """The other person of a direct chat; the chat's address tells if nothing else does."""
    if chat.kind != "direct":
        return None
    if peer is not None and (peer.phone_jid or peer.lid):
        return person_of(peer)
    push_name = peer.push_name if peer else None
    return person_of(Person(phone_jid=chat.jid, push_name=push_name))


def sender_of(chat: Chat, sender: Person) -> PersonPart:
    """Who wrote; in a direct chat the other one, if WhatsApp did not say."""
    if sender.phone_jid or sender.lid or chat.kind != "direct":
        return person_of(sender)
    return person_of(Person(phone_jid=chat.jid, push_name=sender.push_name))
