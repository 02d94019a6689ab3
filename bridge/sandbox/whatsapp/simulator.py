"""The simulator as a whole: one chat server and the phones of its users."""

from __future__ import annotations

import time

import anyio
from loguru import logger

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.nodes import JID, LID_SERVER, SERVER, Node
from bridge.sandbox.whatsapp.crypto.device_identity import LinkingQr, vouch_for_companion
from bridge.sandbox.whatsapp.phone import history
from bridge.sandbox.whatsapp.phone.history import PastConversation
from bridge.sandbox.whatsapp.phone.link_code import CodeExchange, WrongCode, normal_code
from bridge.sandbox.whatsapp.phone.phone import Phone, UnknownRecipient
from bridge.sandbox.whatsapp.server.chat import ChatServer
from bridge.sandbox.whatsapp.server.linking import Pairing
from bridge.sandbox.whatsapp.server.records import MAX_COMPANIONS, Account, Device, Group
from bridge.sandbox.whatsapp.server.requests.app_state import announce_collection
from bridge.sandbox.whatsapp.server.session import Session

_ANSWER_TIMEOUT_S = 10.0


class LinkingRefused(Exception):
    """A companion was not linked; the text says why, `code` names it."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class Simulator:
    """What the control API works on."""

    def __init__(self, server: ChatServer) -> None:
        self.server = server
        self.phones: dict[str, Phone] = {}
        server.on_ready = self._companion_is_ready

    # ------------------------------------------------------------------ people

    def add_phone(self, number: str, name: str, addressing: str = LID_SERVER) -> Phone:
        """A new WhatsApp user; the number must be free."""
        phone = self.phones[number] = Phone.create(self.server, number, name, addressing)
        return phone

    def remove_phone(self, phone: Phone) -> None:
        """Delete an account: its companions are logged out."""
        for device in phone.account.companions():
            self.server.linking.unlink(device, say_so=True)
        phone.set_online(online=False)
        self.server.directory.remove_account(phone.account)
        del self.phones[phone.account.number]

    def add_group(self, owner: Phone, subject: str, members: list[Phone]) -> Group:
        """A new group; everybody in it is told."""
        accounts = [member.account for member in members]
        return self.server.groups.create(owner.account, subject, accounts)

    # ------------------------------------------------------------------ linking

    async def scan(self, phone: Phone, text: str) -> Device:
        """Scan the QR code of a client.

        :raises QrUnreadable: if the text is not one of a QR code for linking.
        :raises LinkingRefused: if the client is gone or does not agree.
        """
        code = LinkingQr.parse(text)
        session = self.server.linking.waiting_for(code.ref)
        if session is None:
            raise LinkingRefused(
                "qr_expired", "No client waits with this QR code: it has expired or was used."
            )
        if session.registration is None or session.registration.bytes_(3) != code.identity:
            raise LinkingRefused("qr_forged", "The QR code names another key than its client has.")
        pairing = self._vouch(phone, session, code.identity, code.adv_secret)
        return await self._outcome(pairing)

    async def enter_code(self, phone: Phone, typed: str) -> Device:
        """Type the code that a client shows for this phone's number.

        :raises WrongCode: if it is not that code.
        :raises LinkingRefused: if no client waits for one, or it does not agree.
        """
        code = normal_code(typed)
        number = phone.account.number
        request = self.server.linking.code_requests.get(number)
        if request is None:
            raise LinkingRefused("no_code_requested", "No client waits for a code of this number.")
        exchange = await anyio.to_thread.run_sync(CodeExchange, code, request.wrapped_ephemeral)
        request.session.deliver(self._primary_hello(phone, request.ref, exchange))
        with anyio.move_on_after(_ANSWER_TIMEOUT_S):
            await request.answered.wait()
        if not request.key_bundle:
            raise LinkingRefused("no_answer", "The client did not answer the code.")
        identity, secret = exchange.open(request.key_bundle, phone.state.store.identity)
        registration = request.session.registration
        if registration is None or registration.bytes_(3) != identity:
            raise WrongCode("This is not the code that the other device shows.")
        return await self._outcome(self._vouch(phone, request.session, identity, secret))

    def _primary_hello(self, phone: Phone, ref: bytes, exchange: CodeExchange) -> Node:
        hello = Node(
            "link_code_companion_reg",
            {"stage": "primary_hello"},
            [
                Node("link_code_pairing_ref", {}, ref),
                Node(
                    "link_code_pairing_wrapped_primary_ephemeral_pub",
                    {},
                    exchange.wrapped_ephemeral,
                ),
                Node("primary_identity_pub", {}, phone.state.store.identity.public),
            ],
        )
        return Node(
            "notification",
            {
                "from": SERVER,
                "type": "link_code_companion_reg",
                "id": self.server.directory.next_id(),
                "t": int(time.time()),
            },
            [hello],
        )

    def _vouch(self, phone: Phone, session: Session, identity: bytes, secret: bytes) -> Pairing:
        if len(phone.account.companions()) >= MAX_COMPANIONS:
            raise LinkingRefused(
                "too_many_devices", f"A phone has at most {MAX_COMPANIONS} linked devices."
            )
        key_index = phone.account.next_device
        details, vouched = vouch_for_companion(
            phone.state.store.identity, identity, secret, key_index
        )
        return self.server.linking.pair(session, phone.account, vouched, details)

    @staticmethod
    async def _outcome(pairing: Pairing) -> Device:
        with anyio.move_on_after(_ANSWER_TIMEOUT_S):
            await pairing.done.wait()
        if not pairing.done.is_set():
            raise LinkingRefused("no_answer", "The client did not answer.")
        if pairing.problem:
            raise LinkingRefused("refused_by_client", pairing.problem)
        return pairing.device

    # ------------------------------------------------------------------ after linking

    def _companion_is_ready(self, device: Device) -> None:
        """What a phone does for a new companion: keys of the app state, names, history."""
        phone = self.phones.get(device.number)
        if phone is None:
            return
        now_ms = int(time.time() * 1000)
        name = protobuf.encode((1, now_ms), (7, protobuf.encode((1, phone.account.name))))
        phone.app_state("critical_block").put(["setting_pushName"], name, 1)
        share = protobuf.encode((1, phone.state.sync_key.share()))
        phone.send_to_own(device, protobuf.encode((2, 6), (7, share)))
        self._send_history(
            phone, device, history.INITIAL, phone.state.history, chunks=phone.state.history_chunks
        )
        for collection in phone.account.app_state:
            announce_collection(
                phone.account, collection, self.server.directory, self.server.post, but=device
            )
        logger.info("a companion is linked", device=device.id)

    def add_contact(self, phone: Phone, other: Phone, full_name: str) -> None:
        """Put somebody into a phone's address book; companions are told."""
        action = protobuf.encode((1, full_name), (2, full_name.split(maxsplit=1)[0]), (4, True))
        index = ["contact", str(other.account.pn)]
        self._put(phone, "critical_unblock_low", index, (3, action), version=2)

    def change_chat(
        self,
        phone: Phone,
        chat: JID,
        *,
        archived: bool | None,
        pinned: bool | None,
        muted_until: int | None,
    ) -> None:
        """What is not None is changed; companions are told. Unix time; 0 = not muted, -1 = ever."""
        if archived is not None:
            action = (17, protobuf.encode((1, archived)))
            self._put(phone, "regular_low", ["archive", str(chat)], action, version=3)
        if pinned is not None:
            action = (5, protobuf.encode((1, pinned)))
            self._put(phone, "regular_low", ["pin_v1", str(chat)], action, version=5)
        if muted_until is not None:
            until_ms = -1 if muted_until < 0 else muted_until * 1000
            action = (4, protobuf.encode((1, muted_until != 0), (2, until_ms or None)))
            self._put(phone, "regular_high", ["mute", str(chat)], action, version=2)

    def _put(
        self,
        phone: Phone,
        collection: str,
        index: list[str],
        action: tuple[int, bytes],
        *,
        version: int,
    ) -> None:
        value = protobuf.encode((1, int(time.time() * 1000)), action)
        phone.app_state(collection).put(index, value, version)
        announce_collection(phone.account, collection, self.server.directory, self.server.post)

    def send_history_now(self, phone: Phone, past: list[PastConversation]) -> int:
        """Send conversations to the companions that are linked already; gives their number."""
        devices = [device for device in phone.account.companions() if device.ready]
        for device in devices:
            self._send_history(
                phone, device, history.RECENT, past, chunks=phone.state.history_chunks
            )
        return len(devices)

    def _send_history(
        self,
        phone: Phone,
        device: Device,
        kind: int,
        past: list[PastConversation],
        *,
        chunks: int = 1,
    ) -> None:
        people: list[Account] = []
        conversations = []
        for each in past:
            chat = past_address(phone, each.to)
            account = self.server.directory.account(chat)
            who = {message.sender for message in each.messages}
            who |= {said.sender for message in each.messages for said in message.reactions}
            who |= {said.sender for message in each.messages for said in message.votes}
            senders = {name: past_address(phone, name) for name in who if name}
            known = map(self.server.directory.account, [chat, *senders.values()])
            people += [found for found in known if found]
            conversations.append(
                history.conversation(
                    each,
                    chat,
                    phone=account.pn if account else None,
                    lid=account.lid if account else None,
                    senders=senders,
                )
            )
        lids = [(account.pn, account.lid) for account in people]
        names = {str(account.lid): account.name for account in people if account.name}
        media = self.server.media
        size = max(1, -(-len(conversations) // chunks))
        sent = 0
        for chunk, begin in enumerate(range(0, max(1, len(conversations)), size), 1):
            body = conversations[begin : begin + size]
            sent += len(body)
            blob = history.history_sync(
                kind,
                body,
                push_names=names,
                lids=lids,
                chunk=chunk,
                progress=100 * sent // max(1, len(conversations)) if conversations else 100,
            )
            announced = history.notification(
                kind, blob, media, chunk=chunk, withheld=phone.state.history_withheld
            )
            phone.send_to_own(device, announced)
            kind = history.RECENT
        blob = history.history_sync(history.PUSH_NAMES, [], push_names=names, lids=lids)
        phone.send_to_own(device, history.notification(history.PUSH_NAMES, blob, media))


def past_address(phone: Phone, to: str) -> JID:
    """The chat with somebody of the past, who need not be known here if it is an address.

    :raises UnknownRecipient: if it is an unknown number.
    """
    try:
        return phone.chat_of(to)
    except UnknownRecipient:
        if "@" not in to:
            raise
        return JID.parse(to).bare
