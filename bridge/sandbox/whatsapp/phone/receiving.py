"""What a phone does with the stanzas it gets: decrypt, acknowledge, answer retries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loguru import logger

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.nodes import JID, Attrs, Node, StanzaError
from bridge.sandbox.whatsapp.codec.protobuf import ProtobufError
from bridge.sandbox.whatsapp.crypto.ratchet import DuplicateMessage, SignalError
from bridge.sandbox.whatsapp.crypto.signal_store import unpad
from bridge.sandbox.whatsapp.phone.content import (
    distributed_key,
    read_content,
    unwrap_sent_copy,
)
from bridge.sandbox.whatsapp.phone.inbox import (
    CallRejected,
    Message,
    Receipt,
    Typing,
    Undecryptable,
)
from bridge.sandbox.whatsapp.phone.state import KnownMessage
from bridge.sandbox.whatsapp.server.requests.keys import hand_out_bundle

if TYPE_CHECKING:
    from bridge.sandbox.whatsapp.phone.phone import Phone

_RECEIPT_TYPES = {"": "delivered", "inactive": "delivered", "read-self": "read_self"}
_WANTED_TYPES = ("delivered", "read", "played", "retry", "read_self")


class Receiver:
    """Belongs to one phone and writes to its inbox."""

    def __init__(self, phone: Phone) -> None:
        self._phone = phone

    def take(self, node: Node) -> None:
        """Handle one stanza. Damaged ones are noted, never raised to the sender."""
        try:
            match node.tag:
                case "message":
                    self._message(node)
                case "receipt":
                    self._receipt(node)
                case "notification":
                    self._notification(node)
                case "chatstate":
                    self._typing(node)
                case "call":
                    self._call_rejected(node)
        except (StanzaError, ProtobufError, SignalError) as error:
            logger.warning("a phone got a damaged stanza", problem=str(error))

    def _message(self, node: Node) -> None:
        phone = self._phone
        phone.server.post.acknowledge(phone.device, "message", node.need_text("id"), node)
        chat = node.need_jid("from")
        sender = node.jid("participant") or chat
        try:
            content = self._decrypt(node, chat, sender)
        except DuplicateMessage:
            self._confirm(node, sender)
            return
        except SignalError as error:
            self._ask_again(node, chat, sender, str(error))
            return
        if content is None:
            return
        self._confirm(node, sender)
        message = protobuf.decode(content)
        if copy := unwrap_sent_copy(message):
            chat, content = copy
        self._note(node, chat.bare, sender, content)

    def _decrypt(self, node: Node, chat: JID, sender: JID) -> bytes | None:
        """Decrypt every part; gives the last, which is what was said."""
        store = self._phone.state.store
        address = self._phone.server.directory.address_of(sender)
        content = None
        for enc in node.children("enc"):
            kind = enc.get("type")
            if kind == "skmsg":
                plain = store.sender_ring(str(chat), address).decrypt(enc.data())
            else:
                plain = store.decrypt(address, kind, enc.data())
            content = unpad(plain)
            if key := distributed_key(protobuf.decode(content)):
                store.sender_ring(key[0], address).learn(key[1])
        return content

    def _note(self, node: Node, chat: JID, sender: JID, content: bytes) -> None:
        phone = self._phone
        said = read_content(content)
        from_me = self._number(sender) == phone.account.number
        id_ = node.need_text("id")
        known = KnownMessage(str(chat), str(sender), from_me, content)
        phone.state.remember(id_, known)
        if said.type == "unsupported" and distributed_key(protobuf.decode(content)):
            return  # a sender key on its own says nothing
        phone.inbox.add(
            lambda seq, at: Message(
                seq=seq,
                at=at,
                id=id_,
                chat=str(chat),
                sender=str(sender),
                sender_number=self._number(sender),
                type=said.type,
                from_me=from_me,
                group=chat.is_group,
                text=said.text,
                quoted_id=said.quoted_id,
                target_id=said.target_id,
                media=said.media,
                details=said.details,
            )
        )

    def _confirm(self, node: Node, sender: JID) -> None:
        own = self._number(sender) == self._phone.account.number
        attrs: Attrs = {"id": node.need_text("id"), "to": node.need_jid("from")}
        attrs |= {name: node.jid(name) for name in ("participant", "recipient")}
        attrs["type"] = "sender" if own else None
        self._phone.server.router.receipt(self._phone.device, Node("receipt", attrs))

    def _ask_again(self, node: Node, chat: JID, sender: JID, problem: str) -> None:
        phone = self._phone
        id_ = node.need_text("id")
        phone.inbox.add(
            lambda seq, at: Undecryptable(
                seq=seq, at=at, id=id_, chat=str(chat), sender=str(sender), problem=problem
            )
        )
        attrs: Attrs = {"id": id_, "to": chat, "type": "retry"}
        attrs |= {name: node.jid(name) for name in ("participant", "recipient")}
        store = phone.state.store
        keys = hand_out_bundle(phone.device, phone.server.directory, phone.server.post)
        body = [
            Node("retry", {"count": 1, "id": id_, "t": node.get("t"), "v": 1}),
            Node("registration", {}, store.registration_id.to_bytes(4, "big")),
            Node("keys", {}, [key for key in keys if key.tag != "registration"]),
        ]
        phone.server.router.receipt(phone.device, Node("receipt", attrs, body))

    def _receipt(self, node: Node) -> None:
        phone = self._phone
        phone.server.post.acknowledge(phone.device, "receipt", node.need_text("id"), node)
        chat = node.need_jid("from")
        reader = node.jid("participant") or chat
        kind = _RECEIPT_TYPES.get(node.get("type"), node.get("type"))
        if kind == "retry":
            self._retry(node, reader)
        own = self._number(reader) == phone.account.number
        if own and kind in ("read", "played"):
            kind = "read_self"
            chat = node.jid("recipient") or chat
        if kind not in _WANTED_TYPES or (own and kind == "delivered"):
            return
        ids = [node.need_text("id")]
        ids += [item.need_text("id") for item in node.child("list") or ()]
        phone.inbox.add(
            lambda seq, at: Receipt(
                seq=seq,
                at=at,
                ids=ids,
                type=kind,
                chat=str(chat.bare),
                reader=str(reader),
                reader_number=self._number(reader),
            )
        )

    def _retry(self, node: Node, requester: JID) -> None:
        phone = self._phone
        device = phone.server.directory.device(requester)
        if device is None:
            return
        keys, registration = node.child("keys"), node.child("registration")
        bundle = [registration, *keys] if keys and registration else None
        retry = node.child("retry")
        count = retry.get("count") if retry else "1"
        phone.send_again(node.need_text("id"), device, bundle, count or "1")

    def _notification(self, node: Node) -> None:
        phone = self._phone
        phone.server.post.acknowledge(phone.device, "notification", node.need_text("id"), node)
        if node.get("type") == "encrypt":
            phone.make_prekeys()

    def _typing(self, node: Node) -> None:
        chat = node.need_jid("from")
        sender = node.jid("participant") or chat
        state = node.first()
        name = "recording" if state.get("media") == "audio" else state.tag
        self._phone.inbox.add(
            lambda seq, at: Typing(
                seq=seq,
                at=at,
                chat=str(chat.bare),
                sender_number=self._number(sender),
                state=name,
            )
        )

    def _call_rejected(self, node: Node) -> None:
        by = self._number(node.need_jid("from"))
        id_ = node.need("reject").need_text("call-id")
        self._phone.inbox.add(lambda seq, at: CallRejected(seq=seq, at=at, id=id_, by_number=by))

    def _number(self, jid: JID) -> str:
        account = self._phone.server.directory.account(jid)
        return account.number if account else jid.user
