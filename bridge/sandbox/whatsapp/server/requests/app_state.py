"""Requests about app state: snapshots, patches from and to companions."""

from __future__ import annotations

import time

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.nodes import SERVER, Attrs, Node, StanzaError
from bridge.sandbox.whatsapp.server.app_state import Collection
from bridge.sandbox.whatsapp.server.directory import Directory
from bridge.sandbox.whatsapp.server.post_office import PostOffice
from bridge.sandbox.whatsapp.server.records import Account, Device
from bridge.sandbox.whatsapp.server.requests.table import Answer, Request, RequestTable

_PUSH_NAME = 7


def register(table: RequestTable) -> None:
    """Add this module's handlers."""
    table.add("w:sync:app:state", "set", "sync", handler=_sync)


def announce_collection(
    account: Account,
    name: str,
    directory: Directory,
    post: PostOffice,
    *,
    but: Device | None = None,
) -> None:
    """Tell an account's companions that a collection has a new version."""
    version = account.app_state[name].version
    for device in account.companions():
        if device is but or not device.ready:
            continue
        attrs: Attrs = {"from": SERVER, "type": "server_sync"}
        attrs |= {"id": directory.next_id(), "t": int(time.time())}
        child = Node("collection", {"name": name, "version": version})
        post.deliver(device, Node("notification", attrs, [child]))


def _sync(request: Request) -> Answer:
    account = request.account
    answers = []
    changed = []
    for wanted in request.child.children("collection"):
        name = wanted.need_text("name")
        collection = account.app_state.get(name)
        if collection is None:
            attrs: Attrs = {
                "name": name,
                "version": 0,
                "type": "regular",
                "has_more_patches": "false",
            }
            answers.append(Node("collection", attrs))
            continue
        before = collection.version
        answers.append(_answer(collection, wanted, request))
        if collection.version != before:
            changed.append(name)

    def afterwards() -> None:
        services = request.services
        for name in changed:
            announce_collection(
                account, name, services.directory, services.post, but=request.device
            )

    return Answer([Node("sync", {}, answers)], afterwards)


def _answer(collection: Collection, wanted: Node, request: Request) -> Node:
    attrs: Attrs = {
        "name": collection.name,
        "version": collection.version,
        "has_more_patches": "false",
    }
    if wanted.get("return_snapshot") == "true":
        return Node("collection", attrs, _snapshot(collection, request))
    try:
        since = int(wanted.get("version") or 0)
    except ValueError as error:
        raise StanzaError("the version of a collection is not a number") from error
    patches = [Node("patch", {}, raw) for raw in collection.since(since)]
    if patch := wanted.child("patch"):
        if since != collection.version:  # somebody else was faster
            conflict = Node("error", {"code": 409, "text": "conflict"})
            content = [conflict, Node("patches", {}, patches)]
            return Node("collection", attrs | {"type": "error"}, content)
        collection.apply(patch.data())
        _follow(request.account, collection)
        return Node("collection", {"name": collection.name, "version": collection.version})
    return Node("collection", attrs, [Node("patches", {}, patches)] if patches else None)


def _follow(account: Account, collection: Collection) -> None:
    """What the account's phone does when a companion changed a setting."""
    setting = collection.read().get(("setting_pushName",))
    if setting is not None and (name := setting.sub(_PUSH_NAME).text(1)):
        account.name = name


def _snapshot(collection: Collection, request: Request) -> list[Node] | None:
    if not collection.version:
        return None
    media = request.services.media.add(collection.snapshot(), "app_state")
    reference = protobuf.encode(
        (1, media.media_key),
        (2, media.direct_path),
        (4, media.size_bytes),
        (5, media.file_sha256),
        (6, media.file_enc_sha256),
    )
    return [Node("snapshot", {}, reference)]
