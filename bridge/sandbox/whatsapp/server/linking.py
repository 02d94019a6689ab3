"""Linking a companion to a phone, by QR code or by an 8-letter code, and unlinking it.

The order on the wire::

    server    <pair-device> with refs                     the companion shows them as QR codes
    phone     scans: signs the companion's identity key
    server    <pair-success> with what the phone signed   companion checks the HMAC
    companion <pair-device-sign> with its own signature   server checks it, adds the device
    server    <stream:error code=515>                     the companion logs in
"""

from __future__ import annotations

import base64
import os
import time
from dataclasses import dataclass, field

import anyio

from bridge.sandbox.whatsapp.codec.nodes import JID, SERVER, Attrs, Node
from bridge.sandbox.whatsapp.codec.protobuf import Fields
from bridge.sandbox.whatsapp.crypto.curve import typed_public, verify
from bridge.sandbox.whatsapp.crypto.device_identity import companion_signature_holds
from bridge.sandbox.whatsapp.server.directory import Directory, participant_hash
from bridge.sandbox.whatsapp.server.post_office import PostOffice
from bridge.sandbox.whatsapp.server.records import Account, Device, SignedPreKey
from bridge.sandbox.whatsapp.server.session import Session

_QR_REFS = 6  # the client shows the first for 60 s and the others for 20 s each
_RESTART_REQUIRED = 515


@dataclass(eq=False)
class Pairing:
    """A companion that a phone has vouched for; `done` when it has answered or is gone."""

    account: Account
    device: Device
    session: Session
    request_id: str
    done: anyio.Event = field(default_factory=anyio.Event)
    problem: str = ""


@dataclass(eq=False)
class CodeRequest:
    """A companion that waits for its 8-letter code to be typed on the phone.

    Attributes:
        answered: the companion has answered the phone with its `key_bundle`, or is gone (empty).
    """

    session: Session
    ref: bytes
    wrapped_ephemeral: bytes
    key_bundle: bytes = b""
    answered: anyio.Event = field(default_factory=anyio.Event)


class Linking:
    """Companions on their way in and out."""

    def __init__(self, directory: Directory, post: PostOffice) -> None:
        self.code_requests: dict[str, CodeRequest] = {}
        self._directory = directory
        self._post = post
        self._refs: dict[str, Session] = {}
        self._pairings: dict[Session, Pairing] = {}

    # ------------------------------------------------------------------ the companion

    def begin(self, session: Session, registration: Fields) -> None:
        """Offer refs to an unpaired client."""
        identity, signed = registration.bytes_(3), registration.bytes_(5)
        if not verify(identity, typed_public(signed), registration.bytes_(6)):
            session.refuse_login(400)
            return
        refs = [f"2@{base64.b64encode(os.urandom(48)).decode()}" for _ in range(_QR_REFS)]
        self._refs.update(dict.fromkeys(refs, session))
        children = [Node("ref", {}, ref.encode()) for ref in refs]
        attrs: Attrs = {
            "from": SERVER,
            "type": "set",
            "id": self._directory.next_id(),
            "xmlns": "md",
        }
        session.deliver(Node("iq", attrs, [Node("pair-device", {}, children)]))

    def ask_for_code(self, session: Session, hello: Node) -> bytes:
        """First step of linking by code; gives the ref."""
        ref = f"sandbox-{self._directory.next_id()}".encode()
        wrapped = hello.need("link_code_pairing_wrapped_companion_ephemeral_pub").data()
        self.code_requests[hello.need_jid("jid").user] = CodeRequest(session, ref, wrapped)
        return ref

    def finish_code(self, session: Session, finish: Node) -> None:
        """Last step of linking by code: hand the companion's keys to the phone."""
        bundle = finish.need("link_code_pairing_wrapped_key_bundle").data()
        for request in self.code_requests.values():
            if request.session is session:
                request.key_bundle = bundle
                request.answered.set()

    def waiting_for(self, ref: str) -> Session | None:
        """The connection that shows a QR code with this ref."""
        return self._refs.get(ref)

    def waiting_count(self) -> int:
        """How many unpaired clients are connected."""
        return len(set(self._refs.values()))

    # ------------------------------------------------------------------ pairing

    def pair(self, session: Session, account: Account, vouched: bytes, details: bytes) -> Pairing:
        """Send a companion what the phone signed (an ADVSignedDeviceIdentityHMAC)."""
        registration = session.registration
        if registration is None:
            raise ValueError("this connection is not one of an unpaired client")
        device = Device(
            number=account.number,
            lid_user=account.lid_user,
            id=account.next_device,
            identity=registration.bytes_(3),
            registration_id=int.from_bytes(registration.bytes_(1), "big"),
            signed_prekey=SignedPreKey(
                int.from_bytes(registration.bytes_(4), "big"),
                registration.bytes_(5),
                registration.bytes_(6),
            ),
            noise_static=session.noise_static,
            adv_details=details,
            platform=registration.sub(8).text(1),
        )
        account.next_device += 1
        pairing = Pairing(account, device, session, self._directory.next_id())
        self._pairings[session] = pairing
        success = Node(
            "pair-success",
            {},
            [
                Node("device-identity", {}, vouched),
                Node("platform", {"name": "android"}),
                Node("device", {"jid": device.pn, "lid": device.lid}),
            ],
        )
        attrs: Attrs = {
            "from": SERVER,
            "type": "set",
            "id": pairing.request_id,
            "t": int(time.time()),
        }
        session.deliver(Node("iq", attrs, [success]))
        return pairing

    def take_answer(self, session: Session, answer: Node) -> None:
        """The companion answered `<pair-success>`: add the device, or say why not."""
        pairing = self._pairings.get(session)
        if pairing is None or answer.get("id") != pairing.request_id:
            return
        del self._pairings[session]
        device, account = pairing.device, pairing.account
        identity = answer.child("pair-device-sign", "device-identity")
        if answer.get("type") != "result" or identity is None:
            pairing.problem = "The client refused the pairing."
        elif not companion_signature_holds(
            identity.data(),
            details=device.adv_details,
            identity=device.identity,
            account=account.identity,
        ):
            pairing.problem = "The client's device signature is wrong."
        if pairing.problem or identity is None:
            session.end_stream(401)
        else:
            device.signed_identity = identity.data()
            account.devices[device.id] = device
            self._tell_device_list(account, "add", device)
            session.end_stream(_RESTART_REQUIRED)
        pairing.done.set()

    def forget(self, session: Session) -> None:
        """The connection is gone."""
        self._refs = {ref: each for ref, each in self._refs.items() if each is not session}
        for number, request in list(self.code_requests.items()):
            if request.session is session:
                del self.code_requests[number]
                request.answered.set()
        if pairing := self._pairings.pop(session, None):
            pairing.problem = "The client went away before the pairing was complete."
            pairing.done.set()

    # ------------------------------------------------------------------ afterwards

    def unlink(self, device: Device, *, say_so: bool) -> None:
        """Remove a companion.

        Args:
            device: the companion.
            say_so: end its connection with the reason (it did not ask for it itself).
        """
        account = self._directory.owner_of(device)
        account.devices.pop(device.id, None)
        self._post.forget(device)
        session = self._post.endpoint(device)
        if isinstance(session, Session):
            if say_so:
                session.end_stream(401, Node("conflict", {"type": "device_removed"}))
            else:
                session.close_soon()
            self._post.detach(device, session)
            session.device = None  # nothing that it still says counts
        self._tell_device_list(account, "remove", device)

    def _tell_device_list(self, account: Account, change: str, changed: Device) -> None:
        """An account's device list changed (`add` or `remove`): clients cache such lists for ever.

        Their cache is keyed by the address they asked about, and they ignore a notification about
        an address they do not cache, so both addresses are told. The hash is of the new list.
        """
        for other in self._directory.accounts.values():
            for device in other.companions():
                if device is changed:
                    continue
                for jid in (account.lid, account.pn):
                    key_index = changed.id if change == "add" else None
                    item = Node("device", {"jid": changed.jid(jid), "key-index": key_index})
                    attrs: Attrs = {"device_hash": participant_hash(_device_jids(account, jid))}
                    self._notify(device, "devices", jid, Node(change, attrs, [item]))
                if other is account:
                    jids = _device_jids(account, account.pn)
                    items = [Node("device", {"jid": each}) for each in jids]
                    body = Node("devices", {"dhash": participant_hash(jids)}, items)
                    self._notify(device, "account_sync", account.pn, body)

    def _notify(self, device: Device, kind: str, about: JID, body: Node) -> None:
        attrs: Attrs = {"from": about, "type": kind, "t": int(time.time())}
        attrs["id"] = self._directory.next_id()
        self._post.deliver(device, Node("notification", attrs, [body]))


def _device_jids(account: Account, like: JID) -> list[JID]:
    return [device.jid(like) for device in account.devices.values()]
