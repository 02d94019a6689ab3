"""Requests about Signal keys: uploading them, counting them, handing them out."""

from __future__ import annotations

import hashlib
import time

from bridge.sandbox.whatsapp.codec.nodes import SERVER, Attrs, Node, StanzaError
from bridge.sandbox.whatsapp.crypto.curve import typed_public, verify
from bridge.sandbox.whatsapp.server.directory import Directory
from bridge.sandbox.whatsapp.server.post_office import PostOffice
from bridge.sandbox.whatsapp.server.records import Device, SignedPreKey
from bridge.sandbox.whatsapp.server.requests.table import (
    Answer,
    Request,
    RequestRefused,
    RequestTable,
)

_LOW_PREKEYS = 10
_KEY_TYPE = b"\x05"


def register(table: RequestTable) -> None:
    """Add this module's handlers."""
    table.add("encrypt", "get", "count", handler=_count)
    table.add("encrypt", "set", "registration", "identity", "list", "skey", handler=_upload)
    table.add("encrypt", "set", "rotate", handler=_rotate)
    table.add("encrypt", "get", "key", handler=_fetch)
    table.add("encrypt", "get", "digest", handler=_digest)


def hand_out_bundle(device: Device, directory: Directory, post: PostOffice) -> list[Node]:
    """The keys to start a session with a device.

    A one-time prekey is given to one asker only. A device that is running out of them is told.
    """
    nodes = _lasting_keys(device)
    if device.prekeys:
        id_ = next(iter(device.prekeys))
        public = device.prekeys.pop(id_)
        key = [Node("id", {}, id_.to_bytes(3, "big")), Node("value", {}, public)]
        nodes.append(Node("key", {}, key))
    if len(device.prekeys) < _LOW_PREKEYS:
        attrs: Attrs = {"from": SERVER, "type": "encrypt", "id": directory.next_id()}
        count = Node("count", {"value": len(device.prekeys)})
        stanza = Node("notification", attrs | {"t": int(time.time())}, [count])
        if post.is_active(device):
            post.deliver(device, stanza)
    return nodes


def _lasting_keys(device: Device) -> list[Node]:
    signed = device.signed_prekey
    skey = [
        Node("id", {}, signed.id.to_bytes(3, "big")),
        Node("value", {}, signed.public),
        Node("signature", {}, signed.signature),
    ]
    return [
        Node("registration", {}, device.registration_id.to_bytes(4, "big")),
        Node("type", {}, _KEY_TYPE),
        Node("identity", {}, device.identity),
        Node("skey", {}, skey),
    ]


def _digest(request: Request) -> Answer:
    """What the server has of a device's keys, so that the device can compare."""
    device = request.device
    if not device.prekeys:
        raise RequestRefused(404, "item-not-found")
    ids = [Node("id", {}, id_.to_bytes(3, "big")) for id_ in device.prekeys]
    signed = device.signed_prekey
    keys = b"".join([device.identity, signed.public, signed.signature, *device.prekeys.values()])
    digest = hashlib.sha1(keys, usedforsecurity=False).digest()
    content = [*_lasting_keys(device), Node("list", {}, ids), Node("hash", {}, digest)]
    return Answer([Node("digest", {}, content)])


def _count(request: Request) -> Answer:
    return Answer([Node("count", {"value": len(request.device.prekeys)})])


def _upload(request: Request) -> Answer:
    device, node = request.device, request.node
    identity = node.need("identity").data()
    if identity != device.identity:
        raise RequestRefused(406, "not-acceptable")
    signed = _signed_prekey(node.need("skey"), device)
    prekeys = {}
    for key in node.need("list"):
        public = key.need("value").data()
        if len(public) != 32:
            raise StanzaError("a prekey does not have 32 bytes")
        prekeys[key.need("id").number()] = public
    device.registration_id = node.need("registration").number()
    device.signed_prekey = signed
    device.prekeys |= prekeys
    return Answer()


def _rotate(request: Request) -> Answer:
    request.device.signed_prekey = _signed_prekey(request.child.need("skey"), request.device)
    return Answer()


def _signed_prekey(node: Node, device: Device) -> SignedPreKey:
    public, signature = node.need("value").data(), node.need("signature").data()
    if not verify(device.identity, typed_public(public), signature):
        raise RequestRefused(406, "not-acceptable")
    return SignedPreKey(node.need("id").number(), public, signature)


def _fetch(request: Request) -> Answer:
    directory, post = request.services.directory, request.services.post
    users = []
    for user in request.child.children("user"):
        jid = user.need_jid("jid")
        device = directory.device(jid)
        if device is None:
            content = [Node("error", {"code": 404, "text": "item-not-found"})]
        else:
            content = hand_out_bundle(device, directory, post)
            if identity := _companion_identity(device):
                content.append(Node("device-identity", {}, identity))
        users.append(Node("user", {"jid": jid, "t": int(time.time())}, content))
    return Answer([Node("list", {}, users)])


def _companion_identity(device: Device) -> bytes:
    return device.signed_identity if device.id else b""
