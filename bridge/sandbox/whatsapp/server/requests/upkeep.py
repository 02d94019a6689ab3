"""Requests that keep a session going: ping, activity, media connection, settings."""

from __future__ import annotations

from bridge.sandbox.whatsapp.codec.nodes import Attrs, Node
from bridge.sandbox.whatsapp.server.media_host import AUTH, HOST
from bridge.sandbox.whatsapp.server.requests.table import Answer, Request, RequestTable

_PRIVACY = ("readreceipts", "last", "status", "profile", "groupadd", "online", "calladd")


def register(table: RequestTable) -> None:
    """Add this module's handlers."""
    table.add("w:p", "get", "", "ping", handler=_nothing)
    table.add("passive", "set", "active", handler=_active)
    table.add("passive", "set", "passive", handler=_passive)
    table.add("w:m", "set", "media_conn", handler=_media_connection)
    table.add("privacy", "get", "privacy", handler=_privacy)
    table.add("privacy", "set", "tokens", handler=_nothing)
    table.add("w", "get", "props", handler=_props)
    table.add("abt", "get", "props", handler=_props)
    table.add("urn:xmpp:whatsapp:dirty", "set", "clean", handler=_nothing)
    table.add("disappearing_mode", "set", "disappearing_mode", handler=_nothing)
    table.add("w:stats", "set", "add", handler=_nothing)


def _nothing(_request: Request) -> Answer:
    return Answer()


def _active(request: Request) -> Answer:
    device, services = request.device, request.services

    def afterwards() -> None:
        services.post.activate(device)
        services.on_ready(device)

    return Answer(afterwards=afterwards)


def _passive(request: Request) -> Answer:
    request.services.post.deactivate(request.device)
    return Answer()


def _media_connection(_request: Request) -> Answer:
    attrs: Attrs = {"auth": AUTH, "ttl": 3600, "auth_ttl": 21600, "max_buckets": 12}
    host = Node("host", {"hostname": HOST, "type": "primary"})
    return Answer([Node("media_conn", attrs, [host])])


def _privacy(_request: Request) -> Answer:
    categories = [Node("category", {"name": name, "value": "all"}) for name in _PRIVACY]
    return Answer([Node("privacy", {}, categories)])


def _props(request: Request) -> Answer:
    """No experiments are on."""
    attrs: Attrs = {"protocol": request.child.get("protocol") or "2", "hash": "", "refresh": 86400}
    return Answer([Node("props", attrs)])
