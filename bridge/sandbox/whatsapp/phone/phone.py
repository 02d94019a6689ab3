"""A phone: device 0 of an account.

It is no network client. It plugs into the server as the endpoint of its device and speaks stanzas,
but it encrypts for real, so what is in its inbox went through the companions' Signal code.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.nodes import JID, LID_SERVER, PHONE_SERVER, Attrs, Node
from bridge.sandbox.whatsapp.crypto.ratchet import SignalError
from bridge.sandbox.whatsapp.crypto.signal_store import Bundle, SignalStore, pad
from bridge.sandbox.whatsapp.phone.content import (
    Content,
    Quote,
    sender_key_content,
    sent_copy,
)
from bridge.sandbox.whatsapp.phone.inbox import Inbox
from bridge.sandbox.whatsapp.phone.receiving import Receiver
from bridge.sandbox.whatsapp.phone.state import KnownMessage, PhoneState
from bridge.sandbox.whatsapp.server.app_state import NAMES, Collection, SyncKey
from bridge.sandbox.whatsapp.server.chat import ChatServer
from bridge.sandbox.whatsapp.server.records import Account, Device, Group, SignedPreKey
from bridge.sandbox.whatsapp.server.requests.keys import hand_out_bundle


class UnknownRecipient(LookupError):
    """Nobody has this number, or no group this address."""


class Phone:
    """Sends, reads, types, and vouches for companions.

    Attributes:
        inbox: what it got.
        online: whether it reaches the network.
    """

    def __init__(self, server: ChatServer, account: Account, state: PhoneState) -> None:
        self.server = server
        self.account = account
        self.state = state
        self.device = account.devices[0]
        self.inbox = Inbox(state.inbox, state.last_seq)
        self.online = False
        self._posts = 0
        self._receiver = Receiver(self)
        self.set_online(online=True)

    @classmethod
    def create(cls, server: ChatServer, number: str, name: str, addressing: str) -> Phone:
        """A new account with its phone; the number must be free."""
        store = SignalStore.create()
        account = server.directory.add_account(number, name)
        account.identity = store.identity.public
        account.devices[0] = Device(
            number=number,
            lid_user=account.lid_user,
            id=0,
            identity=store.identity.public,
            registration_id=store.registration_id,
            signed_prekey=SignedPreKey(
                store.signed_id, store.signed_prekey.public, store.signed_signature
            ),
            prekeys=store.make_prekeys(),
            ready=True,
            platform="phone",
        )
        state = PhoneState(number, store, SyncKey.generate(), addressing)
        return cls(server, account, state)

    # ------------------------------------------------------------------ being there

    def set_online(self, *, online: bool) -> None:
        """Reach the network, or lose it: what arrives meanwhile waits at the server."""
        if online and not self.online:
            self.online = True
            self.server.post.attach(self.device, self)
            self.server.post.activate(self.device)
        elif self.online and not online:
            self.online = False
            self.server.post.detach(self.device, self)

    def deliver(self, node: Node) -> None:
        """Take a stanza from the server."""
        self._receiver.take(node)

    def make_prekeys(self) -> None:
        """Give the server new one-time prekeys."""
        self.device.prekeys |= self.state.store.make_prekeys()

    # ------------------------------------------------------------------ addresses

    def chat_of(self, to: str) -> JID:
        """The chat with a number (with or without +), an address or a group.

        :raises UnknownRecipient: if there is no such person or group.
        """
        jid = JID.parse(to) if "@" in to else JID(to.lstrip("+"))
        directory = self.server.directory
        if not jid.is_group and jid.user in directory.groups:
            jid = directory.groups[jid.user].jid
        if jid.is_group:
            if directory.group(jid) is None:
                raise UnknownRecipient(f"There is no group {to}.")
            return jid.bare
        account = directory.account(jid)
        if account is None:
            raise UnknownRecipient(f"There is no phone {to}; make one with POST /phones.")
        server = LID_SERVER if self.state.addressing == LID_SERVER else PHONE_SERVER
        return account.jid(server)

    # ------------------------------------------------------------------ sending

    def send(
        self, chat: JID, content: Content, *, garbled: bool = False, withheld: bool = False
    ) -> str:
        """Send a message to a chat; gives its id.

        Args:
            chat: as `chat_of` gives it.
            content: what to send.
            garbled: damage it on its way to companions of others, who will ask for it again.
            withheld: give companions a note that there is a message, as of what is seen once.
        """
        id_ = "3A" + secrets.token_hex(15).upper()
        me = str(self.device.jid(chat))
        self.state.remember(
            id_,
            KnownMessage(str(chat), me, True, content.raw, content.stanza_type, content.media_type),
        )
        group = self.server.directory.group(chat)
        outgoing = _Outgoing(content, garbled, withheld)
        body = self._for_group(group, outgoing) if group else self._for_person(chat, outgoing)
        attrs: Attrs = {"id": id_, "type": content.stanza_type, "to": chat, "edit": content.edit}
        self.server.router.message(self.device, Node("message", attrs, body))
        return id_

    def post_status(self, viewers: list[Account], content: Content) -> str:
        """A post that people see for a day; told to the companions of those who may see it."""
        id_ = "3A" + secrets.token_hex(15).upper()
        for device in [device for viewer in viewers for device in viewer.companions()]:
            attrs: Attrs = {
                "id": id_,
                "type": content.stanza_type,
                "from": JID("status", "broadcast"),
                "participant": self.account.lid,
                "participant_pn": self.account.pn,
                "addressing_mode": "lid",
                "t": int(time.time()),
                "notify": self.account.name,
            }
            enc = self._encrypt(device, content, content.raw)
            self.server.post.deliver(device, Node("message", attrs, [enc]))
        return id_

    def post_in_channel(self, channel: JID, followers: list[Account], content: Content) -> str:
        """A post of a channel, which is not encrypted; told to the companions of its followers."""
        self._posts += 1
        id_ = "3A" + secrets.token_hex(15).upper()
        for device in [device for follower in followers for device in follower.companions()]:
            attrs: Attrs = {
                "id": id_,
                "server_id": 100 + self._posts,
                "type": content.stanza_type,
                "from": channel,
                "t": int(time.time()),
            }
            body = Node("plaintext", {"mediatype": content.media_type}, content.raw)
            self.server.post.deliver(device, Node("message", attrs, [body]))
        return id_

    def send_to_own(self, device: Device, protocol_message: bytes) -> str:
        """Send a protocol message to one own companion."""
        id_ = "3A" + secrets.token_hex(15).upper()
        raw = protobuf.encode((12, protocol_message))
        chat = self.account.pn
        self.state.remember(id_, KnownMessage(str(chat), str(chat), True, raw, "peer"))
        attrs: Attrs = {"id": id_, "type": "text", "to": device.pn, "category": "peer"}
        node = Node("message", attrs, [self._encrypt(device, Content(raw), raw)])
        self.server.router.message(self.device, node)
        return id_

    def send_again(self, id_: str, device: Device, keys: list[Node] | None, count: str) -> None:
        """A device could not decrypt a message: a new session, and the same message again."""
        known = self.state.known.get(id_)
        if known is None or not known.from_me:
            return
        self._open_session(device, keys or self._bundle_of(device))
        chat, raw = JID.parse(known.chat), known.raw
        content = Content(raw, known.stanza_type, known.media_type)
        attrs: Attrs = {"id": id_, "type": known.stanza_type, "to": device.jid(chat)}
        group = self.server.directory.group(chat)
        if group:
            key = self.state.store.own_sender_key(str(chat))
            raw += sender_key_content(chat, key.distribution())
            attrs |= {"to": chat, "participant": device.jid(group.addressing)}
        elif known.stanza_type == "peer":
            attrs |= {"type": "text", "to": device.pn, "category": "peer"}
        elif device.number == self.account.number:
            raw = sent_copy(chat, raw)
            attrs["recipient"] = chat
        enc = self._encrypt(device, content, raw)
        enc.attrs = {**enc.attrs, "count": count}
        self.server.router.message(self.device, Node("message", attrs, [enc]))

    def read(self, ids: list[str], *, played: bool = False) -> list[str]:
        """Mark received messages as read; gives the ids that this phone does not know."""
        unknown = []
        for id_ in ids:
            known = self.state.known.get(id_)
            if known is None or known.from_me:
                unknown.append(id_)
                continue
            chat, sender = JID.parse(known.chat), JID.parse(known.sender)
            attrs: Attrs = {
                "id": id_,
                "to": chat,
                "type": "played" if played else "read",
                "t": int(time.time()),
                "participant": sender.bare if chat.is_group else None,
            }
            self.server.router.receipt(self.device, Node("receipt", attrs))
        return unknown

    def show_typing(self, chat: JID, state: str) -> None:
        """Show others that the person is typing: `composing`, `recording` or `paused`."""
        child = Node("composing", {"media": "audio"}) if state == "recording" else Node(state)
        self.server.router.presence(self.device, Node("chatstate", {"to": chat}, [child]))

    def quote(self, id_: str) -> Quote | None:
        """A message that this phone knows, as something to be answered or changed."""
        known = self.state.known.get(id_)
        return Quote(id_, JID.parse(known.sender), known.raw) if known else None

    # ------------------------------------------------------------------ own data

    def app_state(self, name: str) -> Collection:
        """This account's collection of that name, made on first use."""
        if name not in NAMES:
            raise ValueError(f"no collection is called {name}")
        return self.account.app_state.setdefault(name, Collection(name, self.state.sync_key))

    # ------------------------------------------------------------------ encryption

    def _for_person(self, chat: JID, outgoing: _Outgoing) -> list[Node]:
        peer = self.server.directory.account(chat)
        if peer is None:
            raise UnknownRecipient(f"There is no phone {chat.user}.")
        content = outgoing.content
        bodies = [(device, sent_copy(chat, content.raw)) for device in self.account.companions()]
        if peer is not self.account:
            bodies += [(device, content.raw) for device in peer.devices.values()]
        parts = []
        for device, raw in bodies:
            if outgoing.withheld and device.id:
                note = Node("unavailable", {"type": "view_once"})
                parts.append(Node("to", {"jid": device.jid(chat)}, [note]))
                continue
            enc = self._encrypt(device, content, raw)
            if outgoing.garbled and device.id and device.number != self.account.number:
                enc.content = _damaged(enc.data())
            parts.append(Node("to", {"jid": device.jid(chat)}, [enc]))
        return [Node("participants", {}, parts)]

    def _for_group(self, group: Group, outgoing: _Outgoing) -> list[Node]:
        chat, content = group.jid, outgoing.content
        key = self.state.store.own_sender_key(str(chat))
        distribution = sender_key_content(chat, key.distribution())
        parts = []
        for device in self.server.directory.member_devices(group):
            mark = f"{chat}|{key.id}|{device.address}"
            if device is self.device or mark in self.state.distributed:
                continue
            self.state.distributed.add(mark)
            enc = self._encrypt(device, Content(distribution), distribution)
            parts.append(Node("to", {"jid": device.jid(group.addressing)}, [enc]))
        attrs: Attrs = {"v": 2, "type": "skmsg", "mediatype": content.media_type}
        ciphertext = key.encrypt(pad(content.raw))
        if outgoing.garbled:
            ciphertext = _damaged(ciphertext)
        return [Node("participants", {}, parts), Node("enc", attrs, ciphertext)]

    def _encrypt(self, device: Device, content: Content, raw: bytes) -> Node:
        store, address = self.state.store, device.address
        if not store.has_session(address):
            self._open_session(device, self._bundle_of(device))
        kind, ciphertext = store.encrypt(address, pad(raw))
        attrs: Attrs = {"v": 2, "type": kind, "mediatype": content.media_type}
        if content.stanza_type == "reaction":
            attrs["decrypt-fail"] = "hide"
        return Node("enc", attrs, ciphertext)

    def _bundle_of(self, device: Device) -> list[Node]:
        return hand_out_bundle(device, self.server.directory, self.server.post)

    def _open_session(self, device: Device, nodes: list[Node]) -> None:
        self.state.store.open_session(device.address, _read_bundle(nodes))


@dataclass(frozen=True)
class _Outgoing:
    content: Content
    garbled: bool
    withheld: bool


def _damaged(ciphertext: bytes) -> bytes:
    return ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])


def _read_bundle(nodes: list[Node]) -> Bundle:
    by_tag = {node.tag: node for node in nodes}
    try:
        signed, one_time = by_tag["skey"], by_tag.get("key")
        return Bundle(
            registration_id=by_tag["registration"].number(),
            identity=by_tag["identity"].data(),
            signed_id=signed.need("id").number(),
            signed_public=signed.need("value").data(),
            signature=signed.need("signature").data(),
            one_time_id=one_time.need("id").number() if one_time else None,
            one_time_public=one_time.need("value").data() if one_time else None,
        )
    except KeyError as error:
        raise SignalError(f"the bundle has no {error}") from error
